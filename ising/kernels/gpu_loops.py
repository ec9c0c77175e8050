"""The inner loops of :mod:`ising.kernels.gpu`, in Triton.

A column of words, int32, is 32 lattices or the 32 strips of one: twice ``half`` words, first those of the
even sites (x + y even), row by row, then those of the odd ones. A row of one colour has ``width`` words.
Neighbours have the other colour: one in the row above, one below, one at the same place of the own
row and one beside that, left or right as the parity of the row says.

Every spin of every lattice is decided by digits of its own: binary digit ``4 g + j`` of its uniform number is
a bit of word j of Philox4x32-7, at the counter (sweep, site, g, column). The bytes therefore depend neither
on the size of the blocks nor on how many sweeps a launch makes. Seven rounds are the fewest that pass
BigCrush; that sweep and g are multiplied first saves one of them, since they are the same for all sites.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon, Moraes, Dror and Shaw, 2011)
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("triton"):
    import triton.language as tl
    from triton import jit, knobs

    INTERPRETED = tl.constexpr(knobs.runtime.interpret)
else:  # no wheel for this platform: `covers` then says no, and nothing below is called

    def jit(*_, **__):
        return lambda function: function


@jit()
def _product(x, m: tl.constexpr):
    """Low and high half of ``x m``; left to the compiler they would be two instructions."""
    if INTERPRETED:
        wide = x.to(tl.uint64) * m
        return wide.to(tl.uint32), (wide >> 32).to(tl.uint32)
    else:  # noqa: RET505  the compiler takes but one of the branches
        return tl.inline_asm_elementwise(
            "{ .reg .b64 w; mul.wide.u32 w, $2, $3; mov.b64 {$0, $1}, w; }",
            "=r,=r,r,r", [x, m], dtype=(tl.uint32, tl.uint32), is_pure=True, pack=1,
        )  # fmt: skip


@jit()
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-7: four random words, uint32."""
    for _ in tl.static_range(7):
        low_a, high_a = _product(c0, 0xD2511F53)
        low_b, high_b = _product(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high_b ^ c1 ^ k0, low_b, high_a ^ c3 ^ k1, low_a
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@jit()
def _above(x, place, width, TILED: tl.constexpr):
    """What came from the row above: beyond the first row of a strip lies the last one of the strip before."""
    if TILED:
        x = tl.where(place < width, (x << 1) | ((x >> 31) & 1), x)
    return x


@jit()
def _below(x, place, half, width, TILED: tl.constexpr):
    if TILED:
        x = tl.where(place >= half - width, ((x >> 1) & 0x7FFFFFFF) | (x << 31), x)
    return x


@jit()
def _address(offset):
    """As a signed number, which one instruction adds to a pointer; what is divided is better unsigned."""
    return offset.to(tl.int32, bitcast=True)


@jit()
def _neighbourhood(bits, bonds, word, place, colour, half, width, SIGNED: tl.constexpr, TILED: tl.constexpr):
    """The own word, and the number of unsatisfied bonds of each lane in three binary digits."""
    odd_row, k = (place // width + colour) & 1, place % width
    up = (place + (half - width)) % half
    down = (place + width) % half
    left = place - k + (k + (width - 1)) % width
    right = place - k + (k + 1) % width
    beside = tl.where(odd_row == 1, right, left)
    here, there = colour * half, (1 - colour) * half
    column = word * (2 * half)
    own = tl.load(bits + _address(column + here + place))
    north = tl.load(bits + _address(column + there + up))
    south = tl.load(bits + _address(column + there + down))
    near = tl.load(bits + _address(column + there + place))
    far = tl.load(bits + _address(column + there + beside))
    if SIGNED:  # of each site the bond to the right, then, 2 half words on, the bond down: a bit for J < 0
        own_right = tl.load(bonds + _address(here + place))
        own_down = tl.load(bonds + _address(2 * half + here + place))
        its_right = tl.load(bonds + _address(there + tl.where(odd_row == 1, place, left)))
        north = north ^ tl.load(bonds + _address(2 * half + there + up))
        near = near ^ tl.where(odd_row == 1, its_right, own_right)
        far = far ^ tl.where(odd_row == 1, own_right, its_right)
    a = own ^ _above(north, place, width, TILED)
    b = own ^ _below(south, place, half, width, TILED)
    c, d = own ^ near, own ^ far
    if SIGNED:
        b = b ^ own_down
    carry = (a ^ b) & (c ^ d)
    return own, a ^ b ^ c ^ d, (a & b) ^ (c & d) ^ carry, a & b & c & d


@jit()
def _digit_of(p, shift, first: tl.constexpr, c0, c1, c2, CASES: tl.constexpr):
    """A digit of the flip probability of every lane: p[first + u] where u bonds are unsatisfied."""
    d0 = (p[first] << shift) >> 31  # the digit, repeated in the whole word
    d1 = (p[first + 1] << shift) >> 31
    if CASES == 2:
        return d0 ^ (c0 & (d0 ^ d1))
    d2 = (p[first + 2] << shift) >> 31
    d3 = (p[first + 3] << shift) >> 31
    d4 = (p[first + 4] << shift) >> 31
    even = d0 ^ (c1 & (d0 ^ d2)) ^ (c2 & (d0 ^ d4))
    odd = d1 ^ (c1 & (d1 ^ d3))
    return even ^ (c0 & (even ^ odd))


@jit()
def _four_words(g, counter):
    site, word, time, k0, k1 = counter
    group = ((time >> 32) * 8 + g).to(tl.uint32)
    r0, r1, r2, r3 = philox(time.to(tl.uint32), site, group, word, k0, k1)
    return (
        r0.to(tl.int32, bitcast=True), r1.to(tl.int32, bitcast=True),
        r2.to(tl.int32, bitcast=True), r3.to(tl.int32, bitcast=True),
    )  # fmt: skip


@jit()
def _compare(random, first, undecided, flip, own, c0, c1, c2, p, CASES: tl.constexpr):
    """Compares four digits, from number ``first`` on, of the uniform number and of the flip probability."""
    for j in tl.static_range(4):
        digit = _digit_of(p, first + j, 0, c0, c1, c2, CASES)
        if CASES == 10:  # they differ by the own spin
            digit = digit ^ (own & (digit ^ _digit_of(p, first + j, 5, c0, c1, c2, CASES)))
        flip = flip ^ (undecided & (flip ^ digit))  # after the first digit that differs: whether u < p
        undecided = undecided & ~(random[j] ^ digit)
    return undecided, flip


@jit()
def _update(
    bits, bonds, law, index, last, colour, time, k0, k1, half, width,
    CASES: tl.constexpr, SIGNED: tl.constexpr, TILED: tl.constexpr, LADDER: tl.constexpr,
    GROUPS: tl.constexpr,
):  # fmt: skip
    """Decides the spins of one colour in the words ``index`` below ``last``, counted through all columns.

    CASES is how many probabilities have to be told apart: ten in a field, where they depend on the own spin,
    or five; two for Metropolis without a field, which flips spins with two unsatisfied bonds or more with
    probability 15/16, in binary 0.1111. ``4 GROUPS`` digits decide most lanes; more, up to 32, are drawn
    where a lane of the block needs them.
    """
    inside = index < last
    index = tl.minimum(index, last - 1).to(tl.uint32)
    word, place = index // half, index % half
    own, c0, c1, c2 = _neighbourhood(bits, bonds, word, place, colour, half, width, SIGNED, TILED)
    if LADDER:  # a law for each column
        law = law + _address(10 * word)
    p0, p1, p2, p3, p4 = tl.load(law), tl.load(law + 1), tl.load(law + 2), tl.load(law + 3), tl.load(law + 4)
    law = law + 5
    p5, p6, p7, p8, p9 = tl.load(law), tl.load(law + 1), tl.load(law + 2), tl.load(law + 3), tl.load(law + 4)
    p = (p0, p1, p2, p3, p4, p5, p6, p7, p8, p9)
    counter = (colour * half + place, word, time, k0, k1)
    undecided, flip = tl.where(inside, -1, 0), own & 0
    for g in tl.static_range(GROUPS):
        random = _four_words(g, counter)
        if (CASES == 2) & (g == 0):
            easy = c1 | c2
            undecided = undecided & ~easy
            flip = easy & ~(random[0] & random[1] & random[2] & random[3])
        undecided, flip = _compare(random, 4 * g, undecided, flip, own, c0, c1, c2, p, CASES)
    g = GROUPS
    left = tl.max((undecided != 0).to(tl.int32), axis=0)
    while (left != 0) & (g < 8):
        random = _four_words(g, counter)
        undecided, flip = _compare(random, 4 * g, undecided, flip, own, c0, c1, c2, p, CASES)
        g += 1
        left = tl.max((undecided != 0).to(tl.int32), axis=0)
    here = bits + _address(word * (2 * half) + colour * half + place)
    tl.store(here, own ^ (flip & ~undecided), mask=inside)


@jit(do_not_specialize=["words", "t"])
def half_sweep(
    bits, bonds, law, clock, words, t: tl.int32, key0: tl.int64, key1: tl.int64,
    half: tl.constexpr, width: tl.constexpr, colour: tl.constexpr,
    CASES: tl.constexpr, SIGNED: tl.constexpr, TILED: tl.constexpr, LADDER: tl.constexpr,
    GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One colour of all columns, t sweeps after ``clock``: the launches are what keeps the colours apart."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _update(
        bits, bonds, law, index, words * half, colour, tl.load(clock) + t, key0.to(tl.uint32),
        key1.to(tl.uint32), half, width, CASES, SIGNED, TILED, LADDER, GROUPS,
    )  # fmt: skip


@jit(do_not_specialize=["words", "columns", "n"])
def sweeps(
    bits, bonds, law, clock, words, columns: tl.int32, n: tl.int32, key0: tl.int64, key1: tl.int64,
    half: tl.constexpr, width: tl.constexpr,
    CASES: tl.constexpr, SIGNED: tl.constexpr, TILED: tl.constexpr, LADDER: tl.constexpr,
    GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Makes n sweeps in one launch: a program owns whole columns, and waits for nobody but itself."""
    first = tl.program_id(0) * columns * half
    last = tl.minimum(first + columns * half, words * half)
    time = tl.load(clock)
    for t in range(n):
        for colour in tl.static_range(2):
            for start in range(first, last, BLOCK):
                index = start + tl.arange(0, BLOCK)
                _update(
                    bits, bonds, law, index, last, colour, time + t, key0.to(tl.uint32), key1.to(tl.uint32),
                    half, width, CASES, SIGNED, TILED, LADDER, GROUPS,
                )  # fmt: skip
            tl.debug_barrier()  # the next colour reads what other threads of this program have written


@jit()
def census(
    bits, bonds, counts, words, half: tl.constexpr, width: tl.constexpr,
    SIGNED: tl.constexpr, TILED: tl.constexpr, COLUMNS: tl.constexpr, SITES: tl.constexpr,
):  # fmt: skip
    """Adds up, for every lane of every column, unsatisfied bonds and up spins: counts ``(words, 2, 32)``.

    A program takes some ``SITES`` of an even colour, with all their bonds, of some ``COLUMNS``.
    """
    chunks = tl.cdiv(half, SITES)
    word = tl.program_id(0) // chunks * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    place = tl.program_id(0) % chunks * SITES + tl.arange(0, SITES)[None, :]
    inside, lane = ((word < words) & (place < half))[:, :, None], tl.arange(0, 32)
    site, column = tl.minimum(place, half - 1).to(tl.uint32), tl.minimum(word, words - 1).to(tl.uint32)
    own, c0, c1, c2 = _neighbourhood(bits, bonds, column, site, 0, half, width, SIGNED, TILED)
    other = tl.load(bits + _address(column * (2 * half) + half + site))
    ones, twos, fours = (
        (c0[:, :, None] >> lane) & 1,
        (c1[:, :, None] >> lane) & 1,
        (c2[:, :, None] >> lane) & 1,
    )
    up = ((own[:, :, None] >> lane) & 1) + ((other[:, :, None] >> lane) & 1)
    unsatisfied = tl.sum(tl.where(inside, ones + 2 * twos + 4 * fours, 0), axis=1)
    here, valid = counts + word * 64 + lane, (word < words) & (lane < 32)
    tl.atomic_add(here, unsatisfied, mask=valid)
    tl.atomic_add(here + 32, tl.sum(tl.where(inside, up, 0), axis=1), mask=valid)
