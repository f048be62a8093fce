/**
 * Finds the object that a refused transaction breaks on, when the kernel does not say: by halves, log2 of the objects concerned.
 *
 * Each trial is a transaction for the kernel; one that goes in puts the objects in it in force, so that the search is progress.
 * Invariant: an object is named only when everything goes in without it and not with it.
 */

/**
 * `goesIn(heldBack)`: whether all but these go in. `groups`: objects that the refused transaction concerns; those of a later group use those of an
 * earlier one, and hide them when they are held back. Undefined: not even the rest goes in, so it is no object's fault.
 */
export async function findCulprit<Key>(
  groups: readonly (readonly Key[])[],
  goesIn: (heldBack: ReadonlySet<Key>) => Promise<boolean>,
): Promise<Key | undefined> {
  const heldBack = new Set<Key>();
  for (const group of groups) {
    if (group.length === 0) continue;
    for (const key of group) heldBack.add(key);
    if (await goesIn(heldBack)) return search(group, heldBack, goesIn);
  }
  return undefined;
}

/** All goes in with the whole group held back, and not without. */
async function search<Key>(group: readonly Key[], heldBack: Set<Key>, goesIn: (heldBack: ReadonlySet<Key>) => Promise<boolean>): Promise<Key | undefined> {
  let rest = group;
  while (rest.length > 1) {
    const half = rest.slice(0, rest.length >>> 1);
    for (const key of half) heldBack.delete(key);
    if (await goesIn(heldBack)) rest = rest.slice(half.length);
    else {
      for (const key of half) heldBack.add(key);
      rest = half;
    }
  }
  return rest[0];
}
