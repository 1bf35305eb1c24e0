/** Which of the library's networks are shown: all words, a family, a type. */

import type { Network } from "../api/client";

export interface Filter {
  readonly words: string;
  readonly family: string;
  readonly type: string;
}

export const ALL: Filter = { words: "", family: "", type: "" };

/** Those that have every word in name, folder, base or trigger words, in any case. */
export function shown(networks: readonly Network[], filter: Filter): readonly Network[] {
  const words = filter.words.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return networks.filter(
    (network) =>
      (filter.family === "" || network.family === filter.family) &&
      (filter.type === "" || network.types.includes(filter.type)) &&
      words.every((word) => searched(network).includes(word)),
  );
}

function searched(network: Network): string {
  return [network.name, network.folder, network.family, network.base, ...network.types, ...network.triggers].join("\n").toLowerCase();
}
