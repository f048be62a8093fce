/** "HOST:PORT", "[V6]:PORT" and "unix:/PATH", as settings write addresses. */

/** The two halves, an IPv6 address without its brackets; of "unix:/PATH" the whole text and port 0. The text has been checked by its schema. */
export function parseHostAndPort(text: string): { readonly host: string; readonly port: number } {
  if (text.startsWith("unix:")) return { host: text, port: 0 };
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port: Number(text.slice(colon + 1)) };
}

/** False when the port is above 65535. */
export function isPortInRange(text: string): boolean {
  return !(parseHostAndPort(text).port > 65_535);
}
