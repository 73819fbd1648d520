import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlora.data.classes.class_table import ClassTable
from convlora.data.classes.classes_json import read_classes_json
from convlora.data.classes.meaning import resolve_classes
from convlora.data.reading.colours import colour_value
from convlora.errors import InputError


def write_json(folder, content):
    path = folder / "classes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_plain_indices_and_ignore_value_pass_through():
    mask = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    labels = ClassTable(("a", "b", "c")).encode(mask, "m.png")
    assert labels.tolist() == [[0, 1, 2, 255]]
    assert labels.dtype == np.uint8


def test_label_map_wins_over_the_ignore_value():
    table = ClassTable(("background", "cell"), 255, ((0, 0), (255, 1)))
    assert table.encode(np.array([[0, 255]], dtype=np.uint8), "m.png").tolist() == [[0, 1]]


def test_large_ignore_index_needs_wider_labels():
    labels = ClassTable(("a", "b"), 65535).encode(np.array([[1, 65535]], dtype=np.uint16), "m.tif")
    assert labels.tolist() == [[1, 65535]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_value_outside_names_file_values_and_classes(dtype):
    with pytest.raises(InputError, match=re.escape("masks/7.png holds the values 3, 9")) as caught:
        ClassTable(("background", "crack")).encode(np.array([[0, 3, 9, 1]], dtype=dtype), "masks/7.png")
    assert "0 background, 1 crack" in str(caught.value)
    assert "255" in str(caught.value)


@pytest.mark.parametrize("value", [-1, 70000, 257])
def test_values_beyond_any_table_are_outside(value):
    with pytest.raises(InputError, match=str(value)):
        ClassTable(("a", "b")).encode(np.array([[value]], dtype=np.int32), "m.tif")


@given(
    num_classes=st.integers(2, 300),
    ignore_offset=st.integers(0, 50),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([np.uint16, np.int32, np.int64]),
)
def test_encode_maps_every_pixel_as_the_pairs_say(num_classes, ignore_offset, seed, dtype):
    rng = np.random.default_rng(seed)
    ignore_index = num_classes + ignore_offset
    on_disk = rng.choice(np.arange(2000, 4000), num_classes, replace=False)
    pairs = tuple((int(value), index) for index, value in enumerate(on_disk))
    table = ClassTable(tuple(f"c{i}" for i in range(num_classes)), ignore_index, pairs)
    expected = rng.integers(0, num_classes, (5, 7))
    mask = on_disk[expected].astype(dtype)
    mask[0, 0], expected[0, 0] = ignore_index, ignore_index
    assert np.array_equal(table.encode(mask, "m.png"), expected)


@given(st.sets(st.integers(0, 65535), min_size=2, max_size=2))
def test_any_two_values_are_a_binary_task(values):
    low, high = sorted(values)
    table = resolve_classes(values, None, "root")
    assert table.names == ("background", "foreground")
    assert table.encode(np.array([[low, high]]), "m.png").tolist() == [[0, 1]]
    assert (table.label_map is None) == (values == {0, 1})


def test_tables_survive_json():
    for table in (ClassTable(("a", "b")), ClassTable(("a", "b", "c"), 9, ((5, 0), (6, 2)))):
        assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


@pytest.mark.parametrize("label_map", ["ab", [[0]], [[0, 5]], [[-1, 0]]])
def test_from_dict_refuses_a_broken_label_map(label_map):
    with pytest.raises(InputError, match="label_map"):
        ClassTable.from_dict({"classes": ["a", "b"], "label_map": label_map})


def test_read_classes_json(tmp_path):
    path = write_json(tmp_path, {"classes": ["background", "crack"], "ignore_index": 7})
    assert read_classes_json(path)[:3] == (("background", "crack"), (7,), True)
    write_json(tmp_path, "\ufeff" + json.dumps({"classes": ["a", "b", "c"]}))
    assert read_classes_json(path) == (("a", "b", "c"), (255,), False, None, (), None)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not valid JSON"),
        ('{"classes": ["a", "b"], "ignore_index": ' + "1" * 5000 + "}", "not valid JSON"),
        ('{"classes": ["a", "b"], "classes": ["c", "d"]}', "gives 'classes' twice; remove one of them"),
        ("[1]", "no list of names"),
        ({"names": ["a", "b"]}, "no list of names"),
        ({"classes": ["a", 1]}, "no list of names"),
        ({"classes": ["a"]}, "at least two"),
        ({"classes": ["a", "b", "a"]}, "'a' more than once"),
        ({"classes": ["a", "b"], "ignore_index": 1}, "also that of the class 'b'"),
        ({"classes": ["a", "b"], "ignore_index": []}, "or a list of them"),
        ({"classes": ["a", "b"], "ignore_index": [254, True]}, "or a list of them"),
        ({"classes": ["a", "b"], "values": [1, 2], "ignore_index": [0, 2]}, "gives the value 2 to a class"),
        ({"classes": ["a", "b"], "label_map": [[0, 0], [9, 1]]}, 'a "label_map", which is for runs'),
        ({"classes": ["a", "b"], "ignore_index": -100}, "-100"),
        ({"classes": ["a", "b"], "ignore_index": "255"}, "'255'"),
        ({"classes": [f"c{i}" for i in range(256)]}, "256 or more"),
        ({"classes": ["a", "b"], "colors": [[0, 0, 0]]}, "not a list of 2 colours"),
        ({"classes": ["a", "b"], "colors": [[0, 0, 0], [0, 0, 256]]}, "[0, 0, 256]"),
        ({"classes": ["a", "b"], "colors": ["#000000", "#12345g"]}, "'#12345g'"),
        ({"classes": ["a", "b"], "colors": ["#000000", "#000000"]}, "to more than one class"),
        ({"classes": ["a", "b"], "colors": ["#000000", "#ff0000"], "ignore_color": "#ff0000"}, "colour of a class"),
        ({"classes": ["a", "b"], "values": [0]}, "2 different whole numbers"),
        ({"classes": ["a", "b"], "values": [3, 3]}, "2 different whole numbers"),
    ],
)
def test_bad_classes_json_is_named(tmp_path, content, part):
    path = write_json(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(part)) as caught:
        read_classes_json(path)
    assert str(path) in str(caught.value)


def test_missing_classes_json_is_named(tmp_path):
    with pytest.raises(InputError, match=r"classes\.json cannot be read"):
        read_classes_json(tmp_path / "classes.json")


@pytest.mark.parametrize("ignore", [{}, {"ignore_index": 255}])
@pytest.mark.parametrize("values", [{0, 255}, {255}])
def test_two_classes_and_only_0_and_255_means_foreground(tmp_path, ignore, values):
    path = write_json(tmp_path, {"classes": ["background", "cell"], **ignore})
    table = resolve_classes(values, path, tmp_path)
    assert table.label_map == ((0, 0), (255, 1))
    assert table.names == ("background", "cell")


@pytest.mark.parametrize("values", [{0, 1, 255}, {0, 1}, {1, 255}, {0}])
def test_two_classes_with_a_1_keep_255_as_ignored(tmp_path, values):
    path = write_json(tmp_path, {"classes": ["background", "crack"], "ignore_index": 255})
    assert resolve_classes(values, path, tmp_path).label_map is None


def test_more_classes_never_map_255(tmp_path):
    path = write_json(tmp_path, {"classes": ["a", "b", "c"]})
    assert resolve_classes({0, 255}, path, tmp_path).label_map is None


def test_values_outside_the_named_classes(tmp_path):
    path = write_json(tmp_path, {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match=re.escape("holds the values 3, 17 (found: 0, 3, 17, 255),")):
        resolve_classes({0, 3, 17, 255}, path, tmp_path)


def test_unnamed_0_1_255_is_binary_with_ignored_pixels(tmp_path):
    table = resolve_classes({0, 1, 255}, None, tmp_path)
    assert table == ClassTable(("background", "foreground"), 255, None)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({0}, "hold only the value 0"),
        (set(), "hold no values"),
        ({0, 1, 2}, "hold the values 0, 1, 2, which is not a binary task"),
        (set(range(0, 240, 10)), "0, 10, 20, 30, 40, 50, 60, 70, 80, 90, ..."),
    ],
)
def test_unexplained_values_ask_for_classes_json(tmp_path, values, part):
    with pytest.raises(InputError, match=re.escape(part)) as caught:
        resolve_classes(values, None, tmp_path)
    assert "classes.json" in str(caught.value)


def test_values_near_both_ends_look_like_jpeg(tmp_path):
    with pytest.raises(InputError, match="JPEG-compressed or anti-aliased"):
        resolve_classes({0, 1, 2, 3, 250, 254, 255}, None, tmp_path)
    with pytest.raises(InputError, match=r"classes\.json"):
        resolve_classes({*range(21), 255}, None, tmp_path)  # many plain classes are not mistaken for it


RED, GREEN, DARK = (255, 0, 0), (0, 255, 0), (64, 64, 64)


def coloured(tmp_path, **more):
    return write_json(tmp_path, {"classes": ["a", "b", "c"], "colors": [DARK, RED, "#00ff00"], **more})


def test_masks_in_colour(tmp_path):
    path = coloured(tmp_path, ignore_color=[0, 0, 0])
    values = [colour_value(colour) for colour in (DARK, RED, GREEN, (0, 0, 0))]
    table = resolve_classes(set(values), path, tmp_path)
    assert table.encode(np.array([values]), "m.png").tolist() == [[0, 1, 2, 255]]
    assert table.colors == (DARK, RED, GREEN)
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table
    dark_only = np.array([[64, 0]], dtype=np.uint8)
    assert table.encode(dark_only, "m.png").tolist() == [[0, 255]]


def test_shades_of_grey_are_colours_if_nothing_else_explains_them(tmp_path):
    path = write_json(tmp_path, {"classes": ["a", "b"], "colors": [[10, 10, 10], [90, 90, 90]]})
    table = resolve_classes({10, 90}, path, tmp_path)
    assert table.encode(np.array([[90, 10, colour_value((90, 90, 90))]]), "m.png").tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("stored", [lambda v: v, lambda v: colour_value((v, v, v))])
def test_stated_black_and_white_are_colours(tmp_path, stored):
    path = write_json(tmp_path, {"classes": ["paper", "ink"], "colors": [[255, 255, 255], [0, 0, 0]]})
    for values in ({stored(0), stored(255)}, {stored(255)}, {stored(0)}):
        table = resolve_classes(values, path, tmp_path)
        assert table.encode(np.array([[stored(0), stored(255)]]), "m.png").tolist() == [[1, 0]]


def test_what_a_colour_means_does_not_depend_on_the_other_masks(tmp_path):
    path = write_json(tmp_path, {"classes": ["a", "b", "c"], "colors": [[0, 0, 0], [255, 255, 255], RED]})
    black, white, red = (colour_value(colour) for colour in ((0, 0, 0), (255, 255, 255), RED))
    for values in ({black}, {white}, {black, white}, {black, white, red}):
        assert resolve_classes(values, path, tmp_path).encode(np.array([[black, white, red]]), "").tolist() == [
            [0, 1, 2]
        ]


def test_an_unlisted_white_is_an_error_where_colours_decide(tmp_path):
    white = colour_value((255, 255, 255))
    with pytest.raises(InputError, match=re.escape("the colour (255, 255, 255) (found:")):
        resolve_classes({colour_value(RED), colour_value(DARK), white}, coloured(tmp_path), tmp_path)


def test_masks_of_one_channel_saved_with_three(tmp_path):
    grey = [colour_value((value, value, value)) for value in (0, 1, 2, 255)]
    path = write_json(tmp_path, {"classes": ["a", "b", "c"]})
    assert resolve_classes(set(grey), path, tmp_path).encode(np.array([grey]), "").tolist() == [[0, 1, 2, 255]]
    binary = resolve_classes({grey[0], grey[3]}, None, tmp_path)
    assert binary.encode(np.array([[grey[0], grey[3], 255]]), "").tolist() == [[0, 1, 1]]


def test_compressed_colours_get_the_right_advice(tmp_path):
    values = {colour_value((red, 20, 30)) for red in range(256)} | {colour_value((0, green, 99)) for green in range(99)}
    with pytest.raises(InputError, match="JPEG-compressed colours"):
        resolve_classes(values, None, tmp_path)
    with pytest.raises(InputError, match="JPEG-compressed colours"):
        resolve_classes(values, coloured(tmp_path), tmp_path)


def test_two_colours_without_black_have_no_background(tmp_path):
    with pytest.raises(InputError, match="names the classes and their colours"):
        resolve_classes({colour_value(RED), colour_value(GREEN)}, None, tmp_path)


def test_classes_in_another_order():
    table = ClassTable(("a", "b", "c"), 255, ((0, 0), (5, 1), (9, 2)), ((0, 0, 0), RED, GREEN))
    other = table.in_order_of(("c", "a", "b"))
    assert other.encode(np.array([[0, 5, 9, 255]]), "").tolist() == [[1, 2, 0, 255]]
    assert other.colors == (GREEN, (0, 0, 0), RED)


def test_colours_do_not_change_masks_of_indices(tmp_path):
    path = write_json(tmp_path, {"classes": ["a", "b", "c"], "colors": [[1, 1, 1], [0, 0, 0], RED]})
    assert resolve_classes({0, 1, 255}, path, tmp_path).label_map is None


def test_colours_that_are_no_class_are_listed(tmp_path):
    with pytest.raises(InputError, match=re.escape("the colour (1, 2, 3)")) as caught:
        resolve_classes({colour_value(RED), colour_value((1, 2, 3))}, coloured(tmp_path), tmp_path)
    assert "(64, 64, 64) a, (255, 0, 0) b, (0, 255, 0) c" in str(caught.value)
    path = write_json(tmp_path, {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match=r"does not say which colour .* \"colors\""):
        resolve_classes({colour_value(RED), colour_value(GREEN)}, path, tmp_path)
    with pytest.raises(InputError, match=r"in colour \(the colours \(0, 0, 0\), \(0, 255, 0\), \(255, 0, 0\)\)"):
        resolve_classes({0, colour_value(RED), colour_value(GREEN)}, None, tmp_path)


def test_black_and_one_colour_is_a_binary_task(tmp_path):
    table = resolve_classes({0, colour_value(RED)}, None, tmp_path)
    assert table.encode(np.array([[0, colour_value(RED)]]), "m.png").tolist() == [[0, 1]]


def test_numbers_with_gaps_are_listed_and_can_be_stated(tmp_path):
    path = write_json(tmp_path, {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match=re.escape("(found: 0, 3, 7)")) as caught:
        resolve_classes({0, 3, 7}, path, tmp_path)
    assert '"values"' in str(caught.value)
    path = write_json(tmp_path, {"classes": ["a", "b", "c"], "values": [0, 3, 7]})
    table = resolve_classes({0, 3, 7, 255}, path, tmp_path)
    assert table.encode(np.array([[7, 3, 0, 255]]), "m.png").tolist() == [[2, 1, 0, 255]]


def test_label_zero_is_ignored_where_the_classes_have_other_values(tmp_path):
    """As in ADE20K and LoveDA."""
    path = write_json(tmp_path, {"classes": ["a", "b", "c"], "values": [1, 2, 3], "ignore_index": 0})
    table = resolve_classes({0, 1, 2, 3}, path, tmp_path)
    mask = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    assert table.encode(mask, "m").tolist() == [[255, 0], [1, 2]]
    assert table.encode(mask.astype(np.int32), "m").tolist() == [[255, 0], [1, 2]]
    assert table.values_outside({255}) == [255], "nobody said that it is ignored"
    with pytest.raises(InputError, match=re.escape("(1 a, 2 b, 3 c) and not the ignore value 0")):
        resolve_classes({0, 1, 255}, path, tmp_path)
    again = ClassTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again == table
    assert again.encode(mask, "m").tolist() == [[255, 0], [1, 2]]
    other = table.in_order_of(("c", "a", "b"))
    assert other.encode(mask, "m").tolist() == [[255, 1], [2, 0]]


def test_several_values_are_ignored(tmp_path):
    """As in Cityscapes, also in masks that are saved with three channels."""
    path = write_json(tmp_path, {"classes": ["road", "car"], "values": [7, 26], "ignore_index": [0, 1, 255]})
    table = resolve_classes({0, 1, 7, 26, 255}, path, tmp_path)
    assert table.encode(np.array([[0, 1, 7, 26, 255]], dtype=np.uint8), "m").tolist() == [[255, 255, 0, 1, 255]]
    assert table.encode(np.array([[colour_value((1, 1, 1))]]), "m").tolist() == [[255]]
    path = write_json(tmp_path, {"classes": ["a", "b"], "ignore_index": [9, 254]})
    assert resolve_classes({0, 1, 9, 254}, path, tmp_path).encode(np.array([[0, 1, 9, 254]]), "m").tolist() == [
        [0, 1, 255, 255]
    ]


def test_the_remedy_for_an_ignored_class_helps(tmp_path):
    content = {"classes": ["a", "b", "c"], "ignore_index": [0, 2]}
    path = write_json(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_classes_json(path)
    values = json.loads("{" + str(caught.value).rpartition("such as ")[2].removesuffix(".") + "}")
    write_json(tmp_path, content | values)
    assert read_classes_json(path).values == (1, 3, 4)


def test_several_colours_are_ignored(tmp_path):
    path = write_json(
        tmp_path,
        {"classes": ["a", "b"], "colors": ["#ff0000", "#00ff00"], "ignore_color": ["#000000", [255, 255, 255]]},
    )
    black, white, red = (colour_value(colour) for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0)))
    table = resolve_classes({black, white, red}, path, tmp_path)
    assert table.encode(np.array([[black, white, red]]), "m").tolist() == [[255, 255, 0]]
    assert read_classes_json(path).ignored_colors == ((0, 0, 0), (255, 255, 255))


def test_more_than_255_classes_may_ignore_a_value_below(tmp_path):
    names = [f"c{i}" for i in range(300)]
    path = write_json(tmp_path, {"classes": names, "values": list(range(1, 301)), "ignore_index": 0})
    table = resolve_classes({0, 1, 300}, path, tmp_path)
    assert table.encode(np.array([[0, 1, 255, 300]]), "m").tolist() == [[65535, 0, 254, 299]]
