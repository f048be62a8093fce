/** The one executable; which programs it has is in programs.ts. */
import { runSedge } from "./programs.ts";

process.exitCode = await runSedge(process.argv.slice(2));
