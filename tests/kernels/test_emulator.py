"""The emulator of CUDA is itself tested: right kernels compute what they should under every schedule, and kernels with
a planted fault are caught, each by name."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from emulator import EmulationError, Module, no_compiler, using
from emulator.module import SCHEDULES

pytestmark = pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")

FOLDER = Path(__file__).parents[1] / "support" / "emulator"
NAMES = ("indices", "reversed", "dynamic<float>", "dynamic<double>", "shuffles", "histogram", "last", "early")
right = Module((FOLDER / "right.cu").read_text(), NAMES, "right")


@pytest.fixture(params=[(b, s) for b in ("fast", "checked") for s in SCHEDULES], ids="-".join)
def _every_way(request: pytest.FixtureRequest) -> Any:
    with using(build=request.param[0], schedule=request.param[1]):
        yield


@pytest.mark.usefixtures("_every_way")
def test_right_kernels_compute_what_they_should() -> None:
    out = np.zeros(6 * 24, np.int32)
    right.function("indices")((3, 2), (2, 3, 4), (out,))
    assert np.array_equal(out.reshape(6, 24), 10000 * np.arange(6)[:, None] + np.arange(24))

    x, y = np.arange(128, dtype=np.float32), np.empty(128, np.float32)
    right.function("reversed")((2,), (64,), (x, y))
    assert np.array_equal(y.reshape(2, 64), x.reshape(2, 64)[:, ::-1])

    for dtype in (np.float32, np.float64):
        x, y = np.arange(100, dtype=dtype), np.empty(100, dtype)
        name = "dynamic<float>" if dtype == np.float32 else "dynamic<double>"
        right.function(name)((1,), (32,), (x, y, np.int32(100)), shared=x.nbytes)
        assert np.array_equal(y, x[::-1])

    v, out = np.arange(32, dtype=np.int32), np.empty(272, np.int32)
    right.function("shuffles")((1,), (32,), (v, out))
    lanes = np.arange(32)
    assert (out[:32] == 5).all()
    assert np.array_equal(out[32:64], lanes ^ 3)
    assert np.array_equal(out[64:96], np.where(lanes + 4 < 32, lanes + 4, lanes))
    assert np.array_equal(out[96:128], np.where(lanes >= 4, lanes - 4, lanes))
    assert np.array_equal(out[128:160], np.where(lanes % 8 < 7, lanes + 1, lanes))
    assert (out[160:192].view(np.uint32) == sum(1 << i for i in range(0, 32, 3))).all()
    assert (out[192:224] == 3).all()
    assert np.array_equal(out[224:240], np.arange(16) ^ 8)
    assert (out[240:] == 16).all()

    x, counts = np.random.default_rng(0).integers(0, 9, 1000).astype(np.uint8), np.zeros(9, np.uint32)
    right.function("histogram")((3,), (64,), (x, counts, np.int64(1000)))
    assert np.array_equal(counts, np.bincount(x))

    x, parts, total, done = np.arange(5, dtype=np.float32), np.empty(5, np.float32), np.empty(1, np.float32), None
    done = np.zeros(1, np.uint32)
    right.function("last")((5,), (32,), (x, parts, total, done))
    assert total[0] == 20.0

    y = np.zeros(40, np.float32)
    right.function("early")((1,), (64,), (y, np.int32(40)))
    assert (y == 1.0).all()


def test_bytes_are_counted() -> None:
    x, y = np.arange(128, dtype=np.float32), np.empty(128, np.float32)
    with using(build="checked"):
        report = right.function("reversed")((2,), (64,), (x, y))
    assert report is not None
    assert (report.read, report.written) == ((512, 0), (0, 512))


tiles = Module((FOLDER / "tiles.cu").read_text(), ("bf16", "tf32<true>", "tf32<false>"), "tiles")


def _as_bf16(x: Any) -> tuple[Any, Any]:
    """Return float32 numbers rounded to bfloat16: their bits, and their values."""
    u = x.astype(np.float32).view(np.uint32)
    bits = ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def _on_32_bytes(x: Any) -> Any:
    room = np.empty(x.nbytes + 32, np.uint8)
    start = -room.ctypes.data % 32
    copy = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@pytest.mark.usefixtures("_every_way")
def test_tiles_multiply() -> None:
    rng = np.random.default_rng(1)
    a_bits, a = _as_bf16(rng.standard_normal((16, 16)))
    b_bits, b = _as_bf16(rng.standard_normal((16, 16)))
    c, d = _on_32_bytes(rng.standard_normal((16, 16)).astype(np.float32)), _on_32_bytes(np.empty((16, 16), np.float32))
    # NumPy has no bfloat16; a 16-bit type of the same bits goes by the name.
    bits = [_on_32_bytes(x) for x in (a_bits, b_bits)]
    tiles.function("bf16")((1,), (32,), (*bits, c, d))
    assert np.allclose(d, 2.0 * (a @ b.T + c), atol=1e-5)

    x = _on_32_bytes(rng.standard_normal((16, 8)).astype(np.float32))
    y = _on_32_bytes(rng.standard_normal((8, 16)).astype(np.float32))
    tiles.function("tf32<true>")((1,), (32,), (x, y, d))
    assert np.allclose(d.T, x @ y, atol=1e-2)
    assert not np.allclose(d.T, x @ y, atol=1e-6), "TF32 has ten bits of mantissa"


# --- planted faults: source, threads, elements of the array, what the message says, the builds that must see it

CHECKED, BOTH = ("checked",), ("fast", "checked")


class Fault(NamedTuple):
    """How a fault is provoked: a launch on one array; what the message says, and the builds that must see it."""

    blocks: int
    threads: int
    elements: int
    message: str
    builds: tuple[str, ...] = CHECKED


FAULTS = {
    "divergent_barrier": Fault(1, 64, 64, "divergent", BOTH),
    "barrier_against_shuffle": Fault(1, 64, 64, "deadlock", BOTH),
    "shuffle_in_a_branch": Fault(1, 32, 32, "took no part", BOTH),
    "shuffles_apart": Fault(1, 32, 32, "different operations", BOTH),
    "lane_outside_its_mask": Fault(1, 32, 32, "not in its own mask", BOTH),
    "shuffle_from_a_returned_lane": Fault(1, 32, 32, "took no part", BOTH),
    "missing_barrier": Fault(1, 64, 64, "shared memory"),
    "missing_syncwarp": Fault(1, 32, 32, "shared memory"),
    "missing_second_barrier": Fault(1, 64, 64, "race: a (read|write) after"),
    "two_threads_one_place": Fault(1, 64, 64, "race: a write after the write"),
    "shuffle_orders_no_memory": Fault(1, 32, 32, "race: a read after the write"),
    "blocks_share_a_place": Fault(2, 64, 64, "race: a read after the write"),
    "plain_counter_of_blocks": Fault(2, 32, 32, "race"),
    "past_the_end": Fault(2, 64, 100, "writes 4 bytes outside of all arrays"),
    "before_the_start": Fault(1, 32, 32, "reads 4 bytes outside of all arrays"),
    "wild": Fault(1, 32, 32, "crashes|outside", BOTH),
    "shared_never_written": Fault(1, 64, 64, "no thread"),
    "shared_of_the_block_before": Fault(2, 64, 128, "no thread of the block"),
    "misaligned_vector": Fault(1, 32, 32, "misaligned"),
    "index_past_a_local_array": Fault(1, 32, 32, "index \\d+ is outside"),
    "shift_too_far": Fault(1, 32, 32, "shift"),
    "sum_overflows": Fault(1, 32, 32, "overflows"),
    "endless_recursion": Fault(1, 32, 32, "stack", BOTH),
}
faults = Module(
    (FOLDER / "faults.cu").read_text(), (*FAULTS, "racy"), "faults", ("-Wno-infinite-recursion", "-Wno-array-bounds")
)


@pytest.mark.parametrize("name", list(FAULTS))
def test_planted_faults_are_caught(name: str) -> None:
    fault = FAULTS[name]
    for build in fault.builds:
        for schedule in SCHEDULES:
            y = np.zeros(fault.elements, np.float32)
            with using(build=build, schedule=schedule), pytest.raises(EmulationError, match=fault.message) as raised:
                faults.function(name)((fault.blocks,), (fault.threads,), (y,))
            assert str(raised.value).startswith(f"{name}: block (")


def test_every_fault_is_in_the_table() -> None:
    kernels = re.findall(r"__global__ void (\w+)", faults.source)
    assert kernels == list(faults.names)


def test_schedules_expose_a_race_in_the_fast_build() -> None:
    results = set()
    for schedule in SCHEDULES:
        y = np.zeros(64, np.float32)
        with using(build="fast", schedule=schedule):
            faults.function("racy")((1,), (64,), (y,))
        results.add(tuple(np.nan_to_num(y, nan=-1.0)))
    assert len(results) > 1


LAST_BLOCK = """
__global__ void NAME(const float* x, float* parts, float* sum, unsigned* done) {
    __shared__ bool is_last;
    parts[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x];
    FENCE
    BARRIER
    if (threadIdx.x == 0) is_last = COUNT == gridDim.x - 1;
    __syncthreads();
    if (!is_last) return;
    float s = 0.0f;
    for (unsigned b = 0; b < gridDim.x; b++) s += parts[b * blockDim.x + (threadIdx.x + 1) % blockDim.x];
    sum[threadIdx.x] = s;
}
"""
WHOLE = {"NAME": "last", "FENCE": "__threadfence();", "BARRIER": "__syncthreads();", "COUNT": "atomicAdd(done, 1u)"}
WITHOUT = {"no_fence": {"FENCE": ""}, "no_barrier": {"BARRIER": ""}, "no_atomic": {"COUNT": "(*done)++"}}


def _last_block(name: str) -> str:
    text = LAST_BLOCK
    for part, line in (WHOLE | {"NAME": name} | WITHOUT.get(name, {})).items():
        text = text.replace(part, line)
    return text


last_blocks = Module("".join(map(_last_block, ("whole", *WITHOUT))), ("whole", *WITHOUT), "last-block")


@pytest.mark.parametrize("name", ["whole", *WITHOUT])
def test_blocks_are_ordered_by_fence_barrier_and_atomic_together(name: str) -> None:
    x, held, total = (np.ones(s, np.float32) for s in (32, 96, 32))
    args = (x, held, total, np.zeros(1, np.uint32))
    with using(build="checked"):
        if name == "whole":
            last_blocks.function(name)((3,), (32,), args)
            assert (total == 3.0).all()
        else:
            with pytest.raises(EmulationError, match="race"):
                last_blocks.function(name)((3,), (32,), args)


def test_a_tf32_operand_that_was_not_rounded_is_a_fault() -> None:
    x, y = (_on_32_bytes(np.full(s, 0.1, np.float32)) for s in ((16, 8), (8, 16)))
    with pytest.raises(EmulationError, match="not rounded"):
        tiles.function("tf32<false>")((1,), (32,), (x, y, _on_32_bytes(np.empty((16, 16), np.float32))))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros(4, np.float64), np.zeros(4, np.float32)), "argument 0 is an array of float64"),
        ((np.zeros(4, np.float32),), "takes 2 arguments"),
        ((np.float32(1), np.zeros(4, np.float32)), "takes a pointer"),
        ((1.0, np.zeros(4, np.float32)), "of type float; expected an array or a NumPy scalar"),
    ],
)
def test_wrong_arguments(args: Any, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        right.function("reversed")((1,), (64,), args)


def test_wrong_scalars_and_sizes() -> None:
    y = np.zeros(4, np.float32)
    with pytest.raises(EmulationError, match="argument 1 is int64; the kernel takes int32"):
        right.function("early")((1,), (4,), (y, np.int64(4)))
    with pytest.raises(EmulationError, match="argument 1 is an array; the kernel takes a number"):
        right.function("early")((1,), (4,), (y, y))
    with pytest.raises(EmulationError, match="grid"):
        right.function("early")((0,), (4,), (y, np.int32(4)))
    with pytest.raises(EmulationError, match="2048 threads"):
        right.function("early")((1,), (64, 32), (y, np.int32(4)))


def test_a_source_that_does_not_compile_says_why() -> None:
    with pytest.raises(RuntimeError, match="nonsense"):
        Module("__global__ void f(float* y) { nonsense; }", ("f",), "broken").loaded("fast")
