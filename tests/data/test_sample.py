from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from convlora.data.sample import unique_names

PARTS = st.lists(st.sampled_from(["a", "b", "a_b", "c__d", "..", "1", "2"]), min_size=0, max_size=3)
IMAGES = st.builds(
    lambda parts, stem, suffix: Path("root", *parts, stem + suffix),
    PARTS,
    st.sampled_from(["1", "2", "a__1", "b"]),
    st.sampled_from([".png", ".jpg"]),
)


def test_stems_where_they_are_unique_and_paths_where_not():
    images = [Path("d/a/1.png"), Path("d/b/1.png"), Path("d/b/2.png"), Path("/other/1.png")]
    assert unique_names(images, Path("d")) == ["a__1", "b__1", "2", "other__1"]
    assert unique_names([Path("d/1.png"), Path("d/1.jpg")], Path("d")) == ["1", "1__2"]


@given(st.lists(IMAGES, max_size=12))
def test_names_are_unique_file_names(images):
    names = unique_names(images, Path("root"))
    assert len(names) == len(images) == len(set(names))
    assert all(name == Path(name).name for name in names)
