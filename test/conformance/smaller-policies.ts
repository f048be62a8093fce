/** Steps of shrinking: what a list of policies could do without. */

/** One element of one array left out, wherever in the policies; top-level first. */
export function* smallerPolicies<T extends readonly unknown[]>(policies: T): Generator<T> {
  for (const smaller of withoutOne(policies)) yield smaller as T;
}

function* withoutOne(value: unknown): Generator {
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) yield value.toSpliced(i, 1);
    for (let i = 0; i < value.length; i++) for (const smaller of withoutOne(value[i])) yield value.with(i, smaller);
  } else if (typeof value === "object" && value !== null) {
    for (const [key, inner] of Object.entries(value)) {
      // Without its last value a requirement is none any more, and without its policy types a policy is another one.
      if (key === "values" || key === "policyTypes") continue;
      for (const smaller of withoutOne(inner)) yield { ...value, [key]: smaller };
    }
  }
}
