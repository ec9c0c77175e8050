"""The inner loops of :mod:`ising.kernels.gpu`, in Triton.

A column of words, int32, is 32 lattices or the 32 strips of one: twice ``half`` words, first those of the
even sites (x + y even), row by row, then those of the odd ones. A row of one colour has ``width`` words.
Neighbours have the other colour: one in the row above, one below, one at the same place of the own
row and one beside that, left or right as the parity of the row says.

Every spin of every lattice is decided by digits of its own: binary digit ``4 g + j`` of its uniform number is
a bit of word j of Philox4x32-10, at the counter (site, column, sweep, g). The bytes therefore depend neither
on the size of the blocks nor on how many sweeps a launch makes.

References:
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon, Moraes, Dror and Shaw, 2011)
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("triton"):
    import triton.language as tl
    from triton import jit
else:  # no wheel for this platform: `covers` then says no, and nothing below is called

    def jit(*_, **__):
        return lambda function: function


@jit()
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four random words, uint32. Both halves of a product come from one instruction."""
    for _ in tl.static_range(10):
        a = c0.to(tl.uint64) * 0xD2511F53
        b = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (b >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = b.to(tl.uint32)
        c2 = (a >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = a.to(tl.uint32)
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
def _neighbourhood(column, bonds, place, colour, half, width, SIGNED: tl.constexpr, TILED: tl.constexpr):
    """The own word, and the number of unsatisfied bonds of each lane in three binary digits."""
    odd_row, k = (place // width + colour) % 2, place % width
    up = tl.where(place < width, place + half - width, place - width)
    down = tl.where(place >= half - width, place - half + width, place + width)
    right = tl.where(k == width - 1, place + 1 - width, place + 1)
    left = tl.where(k == 0, place + width - 1, place - 1)
    beside = tl.where(odd_row == 1, right, left)
    here, there = colour * half, (1 - colour) * half
    own = tl.load(column + here + place)
    north = tl.load(column + there + up)
    south = tl.load(column + there + down)
    near = tl.load(column + there + place)
    far = tl.load(column + there + beside)
    if SIGNED:  # of each site the bond to the right, then, 2 half words on, the bond down: a bit for J < 0
        own_right = tl.load(bonds + here + place)
        own_down = tl.load(bonds + 2 * half + here + place)
        its_right = tl.load(bonds + there + tl.where(odd_row == 1, place, left))
        north = north ^ tl.load(bonds + 2 * half + there + up)
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
def _digit_of(p, shift, first: tl.constexpr, c0, c1, c2):
    """A digit of the flip probability of every lane: p[first + u] where u bonds are unsatisfied."""
    d0 = (p[first] << shift) >> 31  # the digit, repeated in the whole word
    d1 = (p[first + 1] << shift) >> 31
    d2 = (p[first + 2] << shift) >> 31
    d3 = (p[first + 3] << shift) >> 31
    d4 = (p[first + 4] << shift) >> 31
    even = d0 ^ (c1 & (d0 ^ d2)) ^ (c2 & (d0 ^ d4))
    odd = d1 ^ (c1 & (d1 ^ d3))
    return even ^ (c0 & (even ^ odd))


@jit()
def _four_digits(g, undecided, flip, own, c0, c1, c2, p, counter, FIELD: tl.constexpr):
    """Compares the digits 4 g to 4 g + 3 of the uniform number and of the flip probability."""
    site, word, low, high, k0, k1 = counter
    group = (high * 8 + g).to(tl.uint32)
    random = philox(site, word, low, group, k0, k1)
    for j in tl.static_range(4):
        digit = _digit_of(p, 4 * g + j, 0, c0, c1, c2)
        if FIELD:
            digit = digit ^ (own & (digit ^ _digit_of(p, 4 * g + j, 5, c0, c1, c2)))
        flip = flip ^ (undecided & (flip ^ digit))  # after the first digit that differs: whether u < p
        undecided = undecided & ~(random[j].to(tl.int32, bitcast=True) ^ digit)
    return undecided, flip


@jit()
def _update(
    bits, bonds, law, index, last, colour, time, k0, k1, half, width,
    FIELD: tl.constexpr, SIGNED: tl.constexpr, TILED: tl.constexpr, LADDER: tl.constexpr,
):  # fmt: skip
    """Decides the spins of one colour in the words ``index`` below ``last``, counted through all columns.

    Sixteen digits decide all but :math:`2^{-16}` of the lanes; more, up to 32, are drawn where a lane of the
    block needs them.
    """
    inside = index < last
    index = tl.minimum(index, last - 1)
    word, place = index // half, index % half
    column = bits + word * (2 * half)
    own, c0, c1, c2 = _neighbourhood(column, bonds, place, colour, half, width, SIGNED, TILED)
    if LADDER:  # a law for each column
        law = law + 10 * word
    p0, p1, p2, p3, p4 = tl.load(law), tl.load(law + 1), tl.load(law + 2), tl.load(law + 3), tl.load(law + 4)
    law = law + 5
    p5, p6, p7, p8, p9 = tl.load(law), tl.load(law + 1), tl.load(law + 2), tl.load(law + 3), tl.load(law + 4)
    p = (p0, p1, p2, p3, p4, p5, p6, p7, p8, p9)
    site = (colour * half + place).to(tl.uint32)
    counter = (site, word.to(tl.uint32), time.to(tl.uint32), (time >> 32).to(tl.uint32), k0, k1)
    undecided = tl.where(inside, -1, 0)
    flip = undecided & 0
    for g in tl.static_range(4):
        undecided, flip = _four_digits(g, undecided, flip, own, c0, c1, c2, p, counter, FIELD)
    g = 4
    left = tl.max((undecided != 0).to(tl.int32), axis=0)
    while (left != 0) & (g < 8):
        undecided, flip = _four_digits(g, undecided, flip, own, c0, c1, c2, p, counter, FIELD)
        g += 1
        left = tl.max((undecided != 0).to(tl.int32), axis=0)
    tl.store(column + colour * half + place, own ^ (flip & ~undecided), mask=inside)


@jit(do_not_specialize=["colour", "time", "key0", "key1"])
def half_sweep(
    bits, bonds, law, words, half, width, colour: tl.int32, time: tl.int64, key0: tl.int64, key1: tl.int64,
    FIELD: tl.constexpr, SIGNED: tl.constexpr, TILED: tl.constexpr, LADDER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One colour of all columns: the launches are what keeps the colours apart."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k0, k1 = key0.to(tl.uint32), key1.to(tl.uint32)
    _update(
        bits, bonds, law, index, words * half, colour, time, k0, k1, half, width,
        FIELD, SIGNED, TILED, LADDER,
    )  # fmt: skip


@jit(do_not_specialize=["columns", "time", "n", "key0", "key1"])
def sweeps(
    bits, bonds, law, words, half, width, columns: tl.int32, time: tl.int64, n: tl.int32,
    key0: tl.int64, key1: tl.int64,
    FIELD: tl.constexpr, SIGNED: tl.constexpr, TILED: tl.constexpr, LADDER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Makes n sweeps in one launch: a program owns whole columns, and waits for nobody but itself."""
    first = tl.program_id(0) * columns * half
    last = tl.minimum(first + columns * half, words * half)
    k0, k1 = key0.to(tl.uint32), key1.to(tl.uint32)
    for t in range(n):
        for colour in range(2):
            for start in range(first, last, BLOCK):
                index = start + tl.arange(0, BLOCK)
                _update(
                    bits, bonds, law, index, last, colour, time + t, k0, k1, half, width,
                    FIELD, SIGNED, TILED, LADDER,
                )  # fmt: skip
            tl.debug_barrier()  # the next colour reads what other threads of this program have written


@jit()
def census(
    bits, bonds, counts, words, half, width,
    SIGNED: tl.constexpr, TILED: tl.constexpr, COLUMNS: tl.constexpr, SITES: tl.constexpr,
):  # fmt: skip
    """Adds up, for every lane of every column, unsatisfied bonds and up spins: counts ``(words, 2, 32)``.

    A program takes some ``SITES`` of an even colour, with all their bonds, of some ``COLUMNS``.
    """
    chunks = tl.cdiv(half, SITES)
    word = tl.program_id(0) // chunks * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    place = tl.program_id(0) % chunks * SITES + tl.arange(0, SITES)[None, :]
    inside, lane = ((word < words) & (place < half))[:, :, None], tl.arange(0, 32)
    place, column = tl.minimum(place, half - 1), bits + tl.minimum(word, words - 1) * (2 * half)
    own, c0, c1, c2 = _neighbourhood(column, bonds, place, 0, half, width, SIGNED, TILED)
    other = tl.load(column + half + place)
    ones, twos, fours = (
        (c0[:, :, None] >> lane) & 1,
        (c1[:, :, None] >> lane) & 1,
        (c2[:, :, None] >> lane) & 1,
    )
    up = ((own[:, :, None] >> lane) & 1) + ((other[:, :, None] >> lane) & 1)
    unsatisfied = tl.sum(tl.where(inside, ones + 2 * twos + 4 * fours, 0), axis=1)
    here = counts + word * 64 + lane
    tl.atomic_add(here, unsatisfied, mask=word < words)
    tl.atomic_add(here + 32, tl.sum(tl.where(inside, up, 0), axis=1), mask=word < words)
