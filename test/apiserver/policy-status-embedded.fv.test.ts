import { fixedConnection } from "../../src/datastore/connection.ts";
import { startEmbeddedApi } from "../../src/datastore/embedded/start.ts";
import { describePolicyStatus } from "./policy-status-suite.ts";

describePolicyStatus("the embedded API", async () => {
  const api = await startEmbeddedApi({});
  return {
    connection: fixedConnection(api.url, { ca: api.certificateAuthority, headers: { authorization: `Bearer ${api.token}` } }),
    [Symbol.asyncDispose]: () => api.close(),
  };
});
