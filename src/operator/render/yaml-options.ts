/** Long texts stay on one line and nothing is an alias: what a template engine sees must not depend on lengths or on shared parts of the renderer. */
export const YAML_OPTIONS = { lineWidth: 0, aliasDuplicateObjects: false } as const;
