// What is wrong comes with the rows, from the sidecar: here are the kinds of it, in words. Draws
// nothing.

// The order in which they are read: worst first.
export const GROUPS = {
  failing: "failing",
  refused: "refused",
  closed: "without a server",
  full: "at or near a limit",
  lost: "losing connections",
  drift: "changed by somebody else",
  certificate: "with a certificate to renew",
  down: "with servers down",
  skipped: "with endpoints skipped",
  held: "held",
};

export const daysOf = (certificate) => (certificate?.seconds_left === null || certificate?.seconds_left === undefined ? null : Math.floor(certificate.seconds_left / 86400));

// "89d", and its colour: how long it is valid; that it is not served counts more. `problems`: of
// its row.
export function certificateMark(certificate, problems) {
  if (!certificate) return ["quiet", ""];
  const colour = problems.find(([, group]) => group === "certificate")?.[0] ?? "quiet";
  if (certificate.served === false) return [colour, "not served"];
  const days = daysOf(certificate);
  if (days === null || certificate.source === "default certificate") return [colour, "default"];
  return [colour, days < 0 ? "expired" : `${days}d`];
}
