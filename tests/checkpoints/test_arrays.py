"""Arrays are saved with fingerprints and read back bit for bit, and damage is detected."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from zoo.checkpoints import arrays

BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def slow_checksum(array) -> int:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.array(array)
    elements = array.reshape(-1).view(BITS[array.dtype.itemsize])
    return sum(int(bits) * (2 * i + 1) for i, bits in enumerate(elements)) % 2**32


def sample():
    random = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(random.normal(size=shape), "float32")
    return {
        "blocks_0": {"q.k": {"kernel": normal(3, 4, 5), "bias": normal(7)}},
        "half": normal(5, 3).astype(jnp.bfloat16),
        "float16": normal(5).astype(jnp.float16),
        "scalar": jnp.float32(-0.0),
        "count": jnp.int32(-7),
        "bytes": jnp.arange(200, 210, dtype=jnp.uint8),
        "flags": jnp.array([True, False, True]),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 3),
        "empty": jnp.zeros((2, 0)),
        "nan": jnp.array([jnp.nan, jnp.inf, 0.0]),
    }


def saved(folder, tree):
    assert arrays.save(folder, {"tree": tree}).finish()
    return arrays.describe(tree)


def flip(path, offset, bit):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


def data_file(folder):
    """Return the file with the values."""
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


def test_the_fingerprint_is_a_sum_over_elements_with_odd_weights():
    tree = sample()
    fingerprints = arrays.fingerprint(tree)
    assert fingerprints == {path: slow_checksum(x) for path, x in arrays.flatten(tree).items()}
    assert "blocks_0/q.k/kernel" in fingerprints


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_every_single_bit_changes_the_fingerprint(dtype):
    array = np.arange(12).reshape(3, 4).astype(jnp.dtype(dtype))
    before = arrays.fingerprint([array])["0"]
    for position in range(array.nbytes * 8):
        changed = bytearray(array.tobytes())
        changed[position // 8] ^= 1 << position % 8
        changed = np.frombuffer(changed, array.dtype).reshape(3, 4)
        assert arrays.fingerprint([changed])["0"] != before


def test_swapped_elements_change_the_fingerprint():
    array = jnp.arange(12.0).reshape(3, 4)
    assert arrays.fingerprint([array]) != arrays.fingerprint([array[::-1]])
    assert arrays.fingerprint([array]) != arrays.fingerprint([array.T.reshape(3, 4)])


def test_an_array_may_have_more_than_2_to_the_32_elements():
    shape = jax.ShapeDtypeStruct((2, 2**16, 2**16), jnp.uint8)
    assert jax.eval_shape(arrays._checksum, shape).dtype == jnp.uint32


def test_arrays_are_loaded_bit_for_bit_as_saved(tmp_path):
    tree = sample()
    about = saved(tmp_path / "a", tree)
    loaded = arrays.load(tmp_path / "a" / "tree", about)
    expected = arrays.flatten(tree)
    assert loaded.keys() == expected.keys()
    for path, array in loaded.items():
        assert array.dtype == expected[path].dtype
        assert array.shape == expected[path].shape
        assert slow_checksum(array) == slow_checksum(expected[path])
    assert isinstance(loaded["half"], np.ndarray)


def test_a_folder_may_be_saved_and_loaded_by_a_path_through_its_parent(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    about = saved(Path("../a"), {"x": jnp.arange(3.0)})
    assert arrays.load("../a/tree", about)["x"].tolist() == [0, 1, 2]


def test_orbax_itself_loads_the_same_values(tmp_path):
    tree = arrays.flatten({name: x for name, x in sample().items() if name not in ("key", "keys")})
    del tree["empty"]
    about = saved(tmp_path / "a", tree)
    target = {path: np.empty(x.shape, x.dtype) for path, x in tree.items()}
    theirs = ocp.load_checkpointables(tmp_path / "a", {"tree": target})["tree"]
    ours = arrays.load(tmp_path / "a" / "tree", about)
    assert {p: x.tobytes() for p, x in ours.items()} == {p: x.tobytes() for p, x in theirs.items()}


def test_a_flipped_bit_is_never_read_as_a_value(tmp_path):
    tree = {"a": jnp.asarray(np.random.default_rng(1).normal(size=4096), "float32")}
    about = saved(tmp_path / "a", tree)
    file = data_file(tmp_path / "a" / "tree")
    messages = []
    for offset in np.linspace(0, file.stat().st_size - 1, 24).astype(int):
        flip(file, offset, offset % 8)
        try:
            loaded = arrays.load(tmp_path / "a" / "tree", about)
            assert loaded["a"].tobytes() == tree["a"].tobytes()  # the bit was in an unused byte
        except arrays.Damaged as error:
            messages.append(str(error).partition("tree: ")[2])
        flip(file, offset, offset % 8)
    # Without fingerprints, the first kind would have been read as values.
    changed = messages.count("wrong checksum of a")
    unreadable = sum(line.startswith("a cannot be read: ") for line in messages)
    assert changed > 0
    assert changed + unreadable == len(messages) > 20


@pytest.mark.parametrize("name", ["d/*", "ocdbt.process_0/d/*", "manifest.ocdbt"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_truncated_or_missing_file_is_an_error_of_one_line(tmp_path, name, damage):
    about = saved(tmp_path / "a", {"kernel": jnp.arange(999.0)})
    for file in (tmp_path / "a" / "tree").glob(name):
        content = file.read_bytes()
        file.unlink() if damage == "missing" else file.write_bytes(content[: len(content) // 2])
    with pytest.raises(arrays.Damaged, match="kernel cannot be read: ") as error:
        arrays.load(tmp_path / "a" / "tree", about)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_record_is_read_back_and_its_damage_is_detected(tmp_path):
    record = {"seed": 1, "rate": 0.1, "names": ["ä", None], "loss": float("inf")}
    arrays.save(tmp_path / "a", {"tree": {"x": jnp.ones(2)}}, record).finish()
    assert arrays.read_record(tmp_path / "a") == record
    file = tmp_path / "a" / "meta" / "data.json"
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 3'))
    with pytest.raises(arrays.Damaged, match="its checksum is wrong"):
        arrays.read_record(tmp_path / "a")
    file.write_text(file.read_text()[:9])
    with pytest.raises(arrays.Damaged, match="cannot be read"):
        arrays.read_record(tmp_path / "a")
    file.unlink()
    with pytest.raises(arrays.Damaged, match="no such file"):
        arrays.read_record(tmp_path / "a")


def test_saving_returns_before_the_arrays_are_written(tmp_path):
    saving = arrays.save(tmp_path / "step", {"params": {"w": jnp.ones((4096, 4096))}})
    assert not saving.finish(0)
    assert not (tmp_path / "step").exists()
    assert saving.finish()
    assert (tmp_path / "step").exists()


def test_donated_arrays_are_saved_as_they_were(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = {str(i): jnp.full((512, 1024), float(i)) for i in range(8)}
    about = arrays.describe(tree)
    saving = arrays.save(tmp_path / "a", {"tree": tree})
    for _ in range(5):
        tree = step(tree)
    jax.block_until_ready(tree)
    saving.finish()
    loaded = arrays.load(tmp_path / "a" / "tree", about)
    assert all((loaded[str(i)] == i).all() for i in range(8))


@pytest.mark.parametrize("name", ["[a]", "a*", "a?", "a\\b", "\udcff"])
def test_a_path_with_which_arrays_would_be_lost_is_refused(name, tmp_path):
    with pytest.raises(OSError, match="was not saved: choose a path without"):
        arrays.save(tmp_path / name, {"tree": {"x": jnp.ones(2)}})
