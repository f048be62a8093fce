/** What makes this cluster this cluster: the uid of namespace kube-system, which no cluster shares with another and which outlives every server of it. */
import type { ApiClient, CallOptions } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { objectAt, stringAt } from "./json-object.ts";

/** uid of kube-system, else of default. Throws ApiError or ApiUnreachableError; ApiError 404 when the cluster has neither. */
export async function clusterUid(client: ApiClient, options: CallOptions = {}): Promise<string> {
  for (const name of ["kube-system", "default"]) {
    try {
      const uid = stringAt(objectAt(await client.get(API_RESOURCES.Namespace, { name }, options), "metadata"), "uid");
      if (uid !== undefined && uid !== "") return uid;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }
  throw new ApiError({
    status: 404,
    request: "GET /api/v1/namespaces/default",
    body: { reason: "NotFound", message: "neither kube-system nor default exists: this API server has not finished its first start" },
  });
}
