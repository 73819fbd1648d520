import json
import shutil
import sys

import numpy as np
import pretrain_detail
import pretrain_tiny
import pytest
import torch
from pretraining.dense import OFFSETS, DenseHead, affinities, borders, boxes, extents
from pretraining.evaluation import held_out_prompts, read_components, score_prompts
from pretraining.fine import FineHead, thin
from pretraining.model import new_sam
from pretraining.prompts import answer, draw_prompts, iou, prompt_loss
from pretraining.scenes import EASY, SceneBatches, held_out
from safetensors.torch import load_file

from convlora import SamForSemanticSegmentation
from convlora.data.synthetic import write_task


@pytest.fixture(scope="module")
def scenes():
    return held_out(3, EASY)


def test_boxes_and_extents_are_those_found_by_searching(scenes):
    _, instances = scenes
    cells = instances[:, ::16, ::16]
    box, area = boxes(cells)
    extent = extents(cells)
    for image, numbers in enumerate(cells):
        for number in numbers.unique():
            rows, columns = np.nonzero((numbers == number).numpy())
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box[image, number].tolist() == expected
            assert area[image, number] == len(rows)
            row, column = rows[0], columns[0]
            left, top, right, bottom = expected
            by_hand = [column + 0.5 - left, row + 0.5 - top, right - column - 0.5, bottom - row - 0.5]
            assert (extent[image, row, column] * 16).tolist() == pytest.approx(by_hand)


def test_borders_and_affinities_are_those_found_by_looking():
    instances = torch.zeros(1, 12, 12, dtype=torch.long)
    instances[0, 3:7, 4:9] = 1
    border = borders(instances)[0]
    assert border[2, 5]
    assert border[3, 5]
    assert not border[4, 6]
    assert not border[0, 0]
    same, known = affinities(instances)
    for channel, (down, right) in enumerate(OFFSETS):
        for row in range(12):
            for column in range(12):
                inside = row + down < 12 and 0 <= column + right < 12
                assert known[0, channel, row, column] == inside
                if inside:
                    alike = instances[0, row, column] == instances[0, row + down, column + right]
                    assert same[0, channel, row, column] == alike


def test_points_and_boxes_fit_the_masks_they_ask_for(scenes):
    _, instances = scenes
    prompts = draw_prompts(instances, 5, torch.Generator().manual_seed(0), noise=0.0)
    for image in range(3):
        for number in range(5):
            mask = prompts.masks[image, number]
            x, y = prompts.points[image, number, 0].long().tolist()
            assert mask[y, x]
            left, top, right, bottom = prompts.boxes[image, number].long().tolist()
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert mask[top].any()
            assert mask[:, right - 1].any()


def test_every_trained_weight_learns(scenes):
    images, instances = scenes
    sam, generator = new_sam(0).train(), torch.Generator().manual_seed(0)
    dense = DenseHead(128)
    embeddings = sam.vision_encoder(images).last_hidden_state
    prompts = draw_prompts(instances, 2, generator)
    total = sum(dense.loss(embeddings, instances).values())
    for kind in ({"boxes": prompts.boxes}, {"points": prompts.points, "several": True}, {}):
        logits, quality = answer(sam, embeddings, **kind)
        masks = prompts.masks if kind else (instances > 0)[:, None]
        total = total + prompt_loss(logits, quality, masks)[0]
    logits, quality = answer(sam, embeddings, points=prompts.points, masks=torch.randn(3, 2, 64, 64))
    total = total + prompt_loss(logits, quality, prompts.masks)[0]
    total.backward()
    # Points outside (0), and "no point": no prompt of these trainings has them.
    unused = ("point_embed.0", "not_a_point_embed")
    for name, parameter in [*sam.named_parameters(), *dense.named_parameters()]:
        if parameter.requires_grad and not any(part in name for part in unused):
            assert parameter.grad is not None, name


def test_prompts_find_their_place_before_any_training():
    """Queries and keys start alike: a point looks more at its own cell than at others."""
    sam = new_sam(0)
    attention = sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    points = torch.tensor([[[[40.0, 200.0]], [[200.0, 40.0]]]])
    code, _ = sam.prompt_encoder(points, torch.ones(1, 2, 1, dtype=torch.int), None, None)
    grid = sam.get_image_wide_positional_embeddings()[0].flatten(1).t()
    scores = attention.q_proj(code[0, :, 0]) @ attention.k_proj(grid).t()
    assert scores.argmax(dim=-1).tolist() == [12 * 16 + 2, 2 * 16 + 12]


def test_scores_of_perfect_and_empty_answers():
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 2:5, 2:5] = True
    assert iou(mask, mask).item() == 1
    assert iou(mask, ~mask).item() == 0
    good, bad = torch.where(mask, 20.0, -20.0), torch.where(mask, -20.0, 20.0)
    targets = mask.repeat_interleave(4, -1).repeat_interleave(4, -2)
    losses = [prompt_loss(logits[:, :, None], torch.tensor([[[quality]]]), targets)
              for logits, quality in ((good, 1.0), (bad, 0.0))]  # fmt: skip
    assert losses[0][0] < 1e-3
    assert losses[0][1] == 1
    assert losses[1][0] > 1
    assert losses[1][1] == 0


def test_held_out_scores_are_repeatable(scenes):
    images, instances = scenes
    sam = new_sam(0)
    first, second = (score_prompts(sam, images, held_out_prompts(instances, 2)) for _ in range(2))
    assert first == second
    assert 0.2 < first["filled_box"] < 1


def test_batches_depend_on_their_number_alone():
    first = SceneBatches(0, 4, 2, 10, seed=0)[3]
    second = SceneBatches(2, 4, 2, 10, seed=0)[1]
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_a_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    def pretrain(folder, *more):
        arguments = ["pretrain_tiny.py", "--output", folder, "--batch-size", 1, "--prompts", 2, "--held-out", 2,
                     "--steps", 4, "--workers", 0, "--log-every", 1, "--evaluate-every", 2, *more]  # fmt: skip
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        pretrain_tiny.main()

    pretrain(tmp_path / "whole")
    monkeypatch.setattr(pretrain_tiny, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "stopped")
    monkeypatch.undo()
    pretrain(tmp_path / "stopped", "--resume")
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["hard"]["box"] >= 0


def test_thin_is_what_holds_no_square():
    instances = torch.zeros(1, 20, 30, dtype=torch.long)
    instances[0, 2:10, 2:10] = 1  # wide
    instances[0, 12:16, 2:28] = 2  # four pixels wide
    instances[0, 2:4, 20:22] = 3  # small
    instances[0, 5:10, 14:19] = 4  # just a square
    expected = (instances == 2) | (instances == 3)
    assert torch.equal(thin(instances), expected)


def test_the_detail_branch_learns_beside_its_sam(scenes):
    """All of it, and through it SAM's embedding and decoder."""
    images, instances = scenes
    sam, fine = new_sam(0).train(), FineHead(128)
    torch.nn.init.normal_(fine.branch.project.weight)  # which begins at zero, so that it would shield the kernels
    embeddings = sam.vision_encoder(images).last_hidden_state
    losses = fine.loss(sam, images, embeddings, instances)
    assert losses.pop("all_iou") != losses.pop("fine_iou")
    sum(losses.values()).backward()
    assert [name for name, parameter in fine.named_parameters() if parameter.grad is None] == []
    assert sam.mask_decoder.upscale_conv1.weight.grad is not None
    assert sam.vision_encoder.patch_embed.projection.weight.grad is not None
    assert {name.partition(".")[0] for name, _ in fine.named_parameters()} == {"branch", "maps", "together"}


def test_a_saved_sam_trains_on(tmp_path, monkeypatch):
    sam = new_sam(3)
    pretrain_tiny.save_model(sam, FineHead(128), tmp_path / "start")
    arguments = ["pretrain_tiny.py", "--output", tmp_path / "more", "--batch-size", 1, "--prompts", 2, "--held-out", 2,
                 "--steps", 1, "--workers", 0, "--lr", 1e-6, "--start", tmp_path / "start"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    pretrain_tiny.main()
    for file in ("model.safetensors", "detail.safetensors"):
        one, two = (load_file(tmp_path / name / file) for name in ("start", "more/model"))
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, atol=1e-3, rtol=1e-2)


def test_parts_of_real_masks_are_prompted(tmp_path):
    write_task("cells", tmp_path, num_train=1, num_val=0, num_test=2, size=(64, 96))
    images, prompts = read_components(tmp_path, per_image=3)
    assert images.shape == (2, 3, 256, 256)
    assert prompts.masks.shape == (2, 3, 256, 256)
    assert prompts.masks.any((-1, -2)).all()


def test_a_branch_at_full_size_trains_on_from_the_one_at_half(tmp_path, monkeypatch):
    def pretrain(folder, *more):
        arguments = ["pretrain_detail.py", "--sam", tmp_path / "sam", "--output", folder, "--batch-size", 1,
                     "--steps", 2, "--workers", 0, "--log-every", 1, "--save-every", 1, "--lr", 1, *more]  # fmt: skip
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        pretrain_detail.main()

    half = FineHead(128)
    pretrain_tiny.save_model(new_sam(3), half, tmp_path / "sam")
    pretrain(tmp_path / "none", "--lr", 0)
    pretrain(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(pretrain_detail, "save_detail", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path / "stopped")
    pretrain(tmp_path / "stopped", "--resume")
    name = "detail-full.safetensors"
    none, one, two = (load_file(tmp_path / folder / name) for folder in ("none", "whole", "stopped"))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert [name for name in one if torch.equal(one[name], none[name])] == [], "all of it learns"
    for own, other in (("down.2.conv1.0", "down.1.conv1.0"), ("meet.conv2.1", "meet.conv2.1"), ("up.0.conv1.0",) * 2):
        assert torch.equal(none[f"{own}.weight"], half.branch.get_parameter(f"{other}.weight").half())
    shutil.copy(tmp_path / "whole" / name, tmp_path / "sam")
    model = SamForSemanticSegmentation.from_pretrained(tmp_path / "sam", detail="full")
    assert torch.equal(model.mask_decoder.detail.meet.conv1[0].weight, one["meet.conv1.0.weight"].float())
