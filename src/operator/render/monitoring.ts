/**
 * Alert rules for Prometheus and a dashboard for Grafana. Every name is one of docs/metrics.md; a test compares.
 *
 * An alert says what is wrong for the cluster and what to do first; what a program repairs by itself is on the dashboard only. They assume that each
 * server and agent is scraped by itself, with labels `instance` and `node` from the scrape.
 */
import { stringify } from "yaml";
import { metadata, nameOf } from "./object.ts";
import { DEFAULT_NAMESPACE } from "./values.ts";
import { YAML_OPTIONS } from "./yaml-options.ts";

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly severity: "critical" | "warning";
  readonly summary: string;
  readonly action: string;
}

export const ALERTS: readonly Alert[] = [
  {
    alert: "SedgeNoServerInSync",
    expr: "max(sedge_fanout_in_sync) < 1 or absent(sedge_fanout_in_sync)",
    for: "2m",
    severity: "critical",
    summary: "No fan-out server has the whole cluster: nodes keep what they have and learn of no change",
    action: "sedge status; the servers' logs say whether the API answers them",
  },
  {
    alert: "SedgeUpstreamStale",
    expr: "min(sedge_fanout_upstream_age_seconds) > 120",
    for: "2m",
    severity: "critical",
    summary: "Every server hears nothing of the Kubernetes API: what is served is older than two minutes",
    action: "Is the API server up, and may the servers' account watch (manifests/20-rbac.yaml)?",
  },
  {
    alert: "SedgeAgentsBehind",
    expr: "sum(sedge_fanout_clients) - sum(sedge_fanout_clients_level) > 0.01 * sum(sedge_fanout_clients)",
    for: "5m",
    severity: "warning",
    summary: "More than one in a hundred agents has not everything in its kernel",
    action: "sedge clients lists who is behind, by how much and why",
  },
  {
    alert: "SedgeSlowToProgram",
    expr: "histogram_quantile(0.99, sum by (le) (rate(sedge_fanout_commit_to_programmed_seconds_bucket[5m]))) > 5",
    for: "10m",
    severity: "warning",
    summary: "From a commit to the kernel takes more than 5 s at the 99th percentile",
    action: "sedge_fanout_commit_to_sent_seconds tells the server's part of it, sedge_agent_apply_seconds the nodes'",
  },
  {
    alert: "SedgeInvalidObjects",
    expr: "max(sedge_fanout_invalid_objects) > 0",
    for: "5m",
    severity: "warning",
    summary: "Objects cannot be understood: `sedge status` says what is in force instead",
    action: "sedge status names each with the field",
  },
  {
    alert: "SedgeAuthorityEnds",
    expr: "min(sedge_issuer_authority_seconds_left) < 90 * 86400",
    for: "1h",
    severity: "warning",
    summary: "The certificate authority ends in less than 90 days: after it no node connects",
    action: "docs/certificates.md, Another authority",
  },
  {
    alert: "SedgeAgentDisconnected",
    expr: "sedge_agent_connected < 1",
    for: "5m",
    severity: "warning",
    summary: "An agent has no server: its node keeps its policies and learns of no change",
    action: "On the node: sedge status --socket /run/sedge/agent.sock",
  },
  {
    alert: "SedgeAgentFailedObjects",
    expr: "sedge_agent_failed_objects > 0",
    for: "5m",
    severity: "critical",
    summary: "Something that is policy for a node is not in its kernel",
    action: "sedge clients tells which object on which node, and the kernel's answer",
  },
  {
    alert: "SedgeAgentKernelRefuses",
    expr: "increase(sedge_agent_apply_failures_total[10m]) > 3",
    for: "0m",
    severity: "critical",
    summary: "A node's kernel refuses whole transactions",
    action: "On the node: sedge status --socket /run/sedge/agent.sock; the agent's log has the kernel's answer",
  },
  {
    alert: "SedgeAgentDiskFails",
    expr: "increase(sedge_agent_store_failures_total[10m]) > 0",
    for: "0m",
    severity: "warning",
    summary: "An agent cannot write its view: after a restart it begins with an older one",
    action: "Is the disk of the state directory full or read-only?",
  },
  {
    alert: "SedgeReportsWait",
    expr: "sum(sedge_fanout_report_backlog) > 100",
    for: "10m",
    severity: "warning",
    summary: "Addresses in use wait to be written to the API",
    action: "May the servers' account write IPAMBlocks? sedge_fanout_block_writes_total tells the outcomes",
  },
  {
    alert: "SedgeCertificateExpires",
    expr: "min by (instance) (sedge_fanout_certificate_expiry_seconds) < 604800 or min by (instance) (sedge_agent_certificate_expiry_seconds) < 604800",
    for: "1h",
    severity: "warning",
    summary: "A certificate ends within a week",
    action: "Replace the files; they are read again without a restart",
  },
];

interface Panel {
  readonly title: string;
  readonly unit: string;
  /** Legend → expression. */
  readonly queries: Readonly<Record<string, string>>;
}

const quantiles = (metric: string): Readonly<Record<string, string>> =>
  Object.fromEntries(["0.5", "0.99"].map((q) => [`p${Number(q) * 100}`, `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket[$__rate_interval])))`]));

export const PANELS: readonly Panel[] = [
  {
    title: "Agents",
    unit: "none",
    queries: { connected: "sum(sedge_fanout_clients)", level: "sum(sedge_fanout_clients_level)", nodes: "max(sedge_fanout_nodes)" },
  },
  { title: "Commit to kernel", unit: "s", queries: quantiles("sedge_fanout_commit_to_programmed_seconds") },
  { title: "API event to commit", unit: "s", queries: quantiles("sedge_fanout_event_to_commit_seconds") },
  { title: "Commit to sent", unit: "s", queries: quantiles("sedge_fanout_commit_to_sent_seconds") },
  { title: "Sent to received", unit: "s", queries: quantiles("sedge_fanout_sent_to_received_seconds") },
  { title: "Computing a commit", unit: "s", queries: quantiles("sedge_fanout_commit_seconds") },
  { title: "Commits", unit: "cps", queries: { "{{instance}}": "rate(sedge_fanout_commits_total[$__rate_interval])" } },
  { title: "Bytes sent", unit: "Bps", queries: { "{{kind}}": "sum by (kind) (rate(sedge_fanout_sent_bytes_total[$__rate_interval]))" } },
  { title: "Sessions that ended", unit: "cps", queries: { "{{reason}}": "sum by (reason) (rate(sedge_fanout_session_ends_total[$__rate_interval]))" } },
  { title: "Views", unit: "none", queries: { sending: "sum(sedge_fanout_answers_running)", waiting: "sum(sedge_fanout_answers_waiting)" } },
  { title: "Records", unit: "none", queries: { "{{kind}}": "max by (kind) (sedge_fanout_records)" } },
  { title: "Age of the API's data", unit: "s", queries: { "{{instance}}": "sedge_fanout_upstream_age_seconds" } },
  { title: "Apply on nodes", unit: "s", queries: quantiles("sedge_agent_apply_seconds") },
  { title: "Servers' load", unit: "percentunit", queries: { "{{instance}}": "sedge_fanout_load_ratio" } },
  { title: "Agents without a server, for how long", unit: "s", queries: quantiles("sedge_agent_without_server_seconds") },
  { title: "Objects not in force", unit: "none", queries: { "{{instance}}": "sedge_agent_failed_objects > 0", invalid: "max(sedge_fanout_invalid_objects)" } },
  { title: "Drift repaired on nodes", unit: "cps", queries: { "{{what}}": "sum by (what) (rate(sedge_agent_drift_repairs_total[$__rate_interval]))" } },
  {
    title: "Shortest certificate",
    unit: "s",
    queries: { servers: "min(sedge_fanout_certificate_expiry_seconds)", agents: "min(sedge_agent_certificate_expiry_seconds)" },
  },
];

export function renderMonitoring(): ReadonlyMap<string, string> {
  return new Map([
    [
      "alerts.yaml",
      `# Generated (npm run generate). Rules for Prometheus: rule_files, or the spec of a PrometheusRule.\n${stringify(alertRules(), YAML_OPTIONS)}`,
    ],
    [
      "autoscaler.yaml",
      `# Generated (npm run generate). An example, not applied with the rest: it needs an adapter that serves pods' metrics (custom.metrics.k8s.io).\n${stringify(autoscaler(), YAML_OPTIONS)}`,
    ],
    ["dashboard.json", `${JSON.stringify(dashboard(), undefined, 2)}\n`],
  ]);
}

function alertRules(): unknown {
  const rules = ALERTS.map(({ alert, expr, for: duration, severity, summary, action }) => ({
    alert,
    expr,
    for: duration,
    labels: { severity },
    annotations: { summary, action },
  }));
  return { groups: [{ name: "sedge", rules }] };
}

/** Holds the servers' mean load at 0.7; slow to go down, since every server that goes moves its agents. */
function autoscaler(): unknown {
  return {
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata: metadata("fanout", DEFAULT_NAMESPACE),
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: nameOf("fanout") },
      minReplicas: 2,
      maxReplicas: 20,
      metrics: [{ type: "Pods", pods: { metric: { name: "sedge_fanout_load_ratio" }, target: { type: "AverageValue", averageValue: "700m" } } }],
      behavior: {
        scaleUp: { policies: [{ type: "Pods", value: 2, periodSeconds: 60 }] },
        scaleDown: { stabilizationWindowSeconds: 1800, policies: [{ type: "Pods", value: 1, periodSeconds: 300 }] },
      },
    },
  };
}

const COLUMNS = 2;
const WIDTH = 24 / COLUMNS;
const HEIGHT = 8;

function dashboard(): unknown {
  const datasource = { type: "prometheus", uid: "${datasource}" };
  return {
    title: "Sedge",
    uid: "sedge",
    schemaVersion: 39,
    editable: true,
    refresh: "30s",
    time: { from: "now-1h", to: "now" },
    templating: { list: [{ name: "datasource", type: "datasource", query: "prometheus" }] },
    panels: PANELS.map(({ title, unit, queries }, i) => ({
      id: i + 1,
      title,
      type: "timeseries",
      datasource,
      gridPos: { x: (i % COLUMNS) * WIDTH, y: Math.floor(i / COLUMNS) * HEIGHT, w: WIDTH, h: HEIGHT },
      fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
      targets: Object.entries(queries).map(([legendFormat, expr], n) => ({ refId: String.fromCharCode(65 + n), datasource, expr, legendFormat })),
    })),
  };
}
