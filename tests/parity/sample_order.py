# The order in which training takes its samples, computed anew from its description: a permutation
# per epoch that is a function of the seed alone. See docs/bring_your_corpus.md and src/core/rng.h.
# Standard library only.
M64 = 2**64 - 1


def mix(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & M64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def key_from(seed, name):
    fnv = 0xCBF29CE484222325
    for byte in name.encode():
        fnv = (fnv ^ byte) * 0x100000001B3 & M64
    return mix(fnv ^ mix(seed + 0x9E3779B97F4A7C15 & M64))


def philox(key, low, high):
    """Philox4x32-10; the first two words as one 64-bit number."""
    m32 = 2**32 - 1
    c = [low & m32, low >> 32, high & m32, high >> 32]
    k = [key & m32, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & m32, p >> 32 ^ c[3] ^ k[1], p & m32]
        k = [k[0] + 0x9E3779B9 & m32, k[1] + 0xBB67AE85 & m32]
    return c[1] << 32 | c[0]


def permute(index, n, key):
    half = (max(2, (n - 1).bit_length()) + 1) // 2
    low = 2**half - 1
    while True:
        left, right = index >> half, index & low
        for turn in range(4):
            left, right = right, (left ^ philox(key, right, turn)) & low
        index = left << half | right
        if index < n:
            return index


def shuffled(sample, count, seed, source=0):
    """Which of `count` windows of data source `source` global sample `sample` is."""
    key = key_from(seed, f"epoch/{sample // count}/{source}")
    return permute(sample % count, count, key)
