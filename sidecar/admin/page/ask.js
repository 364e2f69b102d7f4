// The sidecar's answers.

export async function ask(path) {
  // Not relative to the document: its URL may have a password in it, which fetch() refuses.
  const url = new URL(path, location.origin + location.pathname);
  const answer = await fetch(url, {cache: "no-store", signal: AbortSignal.timeout(10000)});
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer.json();
}
