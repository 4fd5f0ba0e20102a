"""Writes a shard of random tokens whose frequencies follow Zipf's law over a whole vocabulary, as
text's do: power, cache hits and embedding gradients of a benchmark depend on its tokens.

    zipf_shard.py FILE VOCABULARY TOKENS

The format is llm.c's (docs/bring_your_corpus.md): 256 int32, then uint16 or uint32 tokens.
"""

import array
import itertools
import random
import sys


def main():
    path, vocabulary, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(1)
    order = list(range(vocabulary))
    rng.shuffle(order)
    weights = list(itertools.accumulate(1.0 / (rank + 1.0) for rank in range(vocabulary)))
    tokens = rng.choices(order, cum_weights=weights, k=count)
    wide = vocabulary > 1 << 16
    header = array.array("i", [20240801 if wide else 20240520, 7 if wide else 1, count])
    header.extend([0] * (256 - len(header)))
    with open(path, "wb") as out:
        header.tofile(out)
        array.array("I" if wide else "H", tokens).tofile(out)


if __name__ == "__main__":
    main()
