/** Paths to methods and their handlers, from the same definitions and implementations that grpc-js is given. */
import type { ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { AnyHandler, AnyMethod } from "./service-call.ts";

export interface ServedMethod {
  readonly method: AnyMethod;
  readonly handler: AnyHandler;
}

export type MethodTable = ReadonlyMap<string, ServedMethod>;

/** Methods without a handler are left out, so that they are answered with UNIMPLEMENTED. */
export function methodTable(
  services: readonly { readonly definition: ServiceDefinition; readonly implementation: UntypedServiceImplementation }[],
): MethodTable {
  const table = new Map<string, ServedMethod>();
  for (const { definition, implementation } of services) {
    for (const [name, method] of Object.entries(definition)) {
      const handler = implementation[name];
      // The call that the handler gets has the face of grpc-js's as far as our handlers use it (service-call.ts).
      if (handler !== undefined) table.set(method.path, { method, handler: handler as unknown as AnyHandler });
    }
  }
  return table;
}
