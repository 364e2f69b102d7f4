"""`make docs` finds whatever a page of the book would fetch from elsewhere."""

import runpy

import pytest
from cli import ROOT

fetched = runpy.run_path(str(ROOT / "docs/assemble.py"))["fetched"]

FROM_ELSEWHERE = (
    '<script src="https://cdn.example/a.js">',
    "<script defer src=//cdn.example/a.js>",
    '<img alt="" src="http://cdn.example/a.png">',
    '<img src="a.png" srcset="a.png 1x, https://cdn.example/b.png 2x">',
    '<source srcset="//cdn.example/a.webp">',
    '<video controls src="https://cdn.example/a.mp4">',
    '<video src="a.mp4" poster="//cdn.example/a.png">',
    "<audio src='https://cdn.example/a.ogg'>",
    '<object type="image/svg+xml" data="https://cdn.example/a.svg">',
    '<iframe src="//cdn.example/">',
    '<embed src="https://cdn.example/a">',
    '<link rel="stylesheet" href="//cdn.example/a.css">',
    '<link href="https://cdn.example/a.ico" rel="shortcut icon">',
    '<link rel="apple-touch-icon" href="https://cdn.example/a.png">',
    "<link rel=preconnect href=https://cdn.example>",
    '@import "https://cdn.example/a.css";',
    "url(https://cdn.example/a.woff2)",
    "url( '//cdn.example/a.woff2')",
)


@pytest.mark.parametrize("text", FROM_ELSEWHERE)
def test_what_is_fetched_from_elsewhere_is_found(text: str) -> None:
    assert fetched(f"<p>\n{text}\n</p> a {{ b: c }}") == [text]


@pytest.mark.parametrize(
    "text",
    [
        '<a href="https://elsewhere.example/">',
        '<link rel="canonical" href="https://book.example/">',
        '<link rel="next" href="../a//b.html">',
        '<script src="assets/a.js">',
        '<img src="../page.png" alt="https://127.0.0.1">',
        '<object data="a.svg">',
        "url(../fonts/a.woff2)",
        "url('data:image/svg+xml;charset=utf-8,<svg xmlns=\"http://www.w3.org/2000/svg\"/>')",
        "<code>curl https://shop.example</code>",
    ],
)
def test_links_and_what_is_in_the_book_are_not(text: str) -> None:
    assert fetched(text) == []
