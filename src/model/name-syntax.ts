/** Syntax of names as the Kubernetes API server checks it (apimachinery's validation package). Each returns what is wrong, or undefined. */

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED_PART = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

/** Name of a namespace. */
export function dnsLabelProblem(text: string): string | undefined {
  return text.length <= 63 && DNS_LABEL.test(text)
    ? undefined
    : `${quoted(text)} must be 1 to 63 of a-z, 0-9 and "-", beginning and ending with a letter or digit`;
}

/** Name of most objects. */
export function dnsSubdomainProblem(text: string): string | undefined {
  return text.length <= 253 && text.split(".").every((part) => DNS_LABEL.test(part))
    ? undefined
    : `${quoted(text)} must be at most 253 of a-z, 0-9, "-" and ".", each part beginning and ending with a letter or digit`;
}

/** Key of a label: [prefix/]name. */
export function labelKeyProblem(key: string): string | undefined {
  const parts = key.split("/");
  const name = parts.at(-1) ?? "";
  const prefix = parts.length === 2 ? parts[0] : undefined;
  if (parts.length > 2) return `label key ${quoted(key)} has more than one "/"; write [prefix/]name`;
  if (prefix !== undefined && dnsSubdomainProblem(prefix) !== undefined) return `label key ${quoted(key)}: the part before "/" must be a DNS name`;
  if (name.length > 63 || !QUALIFIED_PART.test(name)) {
    return `label key ${quoted(key)}: the name must be 1 to 63 of A-Z, a-z, 0-9, "-", "_" and ".", beginning and ending with a letter or digit`;
  }
  return undefined;
}

/** Value of a label; may be empty. */
export function labelValueProblem(value: string): string | undefined {
  return value === "" || (value.length <= 63 && QUALIFIED_PART.test(value))
    ? undefined
    : `label value ${quoted(value)} must be at most 63 of A-Z, a-z, 0-9, "-", "_" and ".", beginning and ending with a letter or digit`;
}

/** Name of a port (RFC 6335, IANA_SVC_NAME). */
export function portNameProblem(name: string): string | undefined {
  const isValid = name.length <= 15 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name) && /[a-z]/.test(name) && !name.includes("--");
  if (isValid) return undefined;
  return /^\d+$/.test(name)
    ? `port name ${quoted(name)} has no letter; for the number write ${name} without quotes`
    : `port name ${quoted(name)} must be 1 to 15 of a-z, 0-9 and "-", with a letter, no "--", beginning and ending with a letter or digit`;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
