"""How a certificate is called, for a person. Apart from what reads certificates, which who shows a
report need not load. Pure."""


def title(subject: str, issuer: str, not_after: str) -> str:
    """`ServerCertificate.title` of one that has these facts."""
    by = "itself" if issuer == subject else issuer
    return f"{subject}, signed by {by}, valid until {not_after.partition('T')[0]}"
