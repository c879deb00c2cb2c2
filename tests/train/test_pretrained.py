"""Proxies that go on from a checkpoint: a tiny random Qwen3, really trained, alone and from a recipe."""

import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

import torch
from small_run import SmallRecipe
from tiny_model import write_model
from torch.nn import functional as F  # noqa: N812

from redone_data.ablation.measure import Ablator
from redone_data.ablation.variants import chosen, variants
from redone_data.engine import Output, Silent
from redone_data.errors import RedoneError
from redone_data.manifest import file_digest, read_json
from redone_data.mix.swarm import base_losses, trained
from redone_data.recipe import load_recipe
from redone_data.tokens.pool import pools
from redone_data.tokens.tokenizer import opening_token
from redone_train.pretrained import PretrainedModel
from redone_train.pretrained_config import LoraConfig, PretrainedConfig
from redone_train.proxy_run import Stopped, train_run
from redone_train.swarm_files import Swarm
from redone_train.swarm_groups import keep_stack

WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def one_thread():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_model(tmp_path / "checkpoint")


def go_on_from(folder: Any, checkpoint: Path, adapt: str = "lora", **init: Any) -> None:
    folder.config["init"] = {"path": str(checkpoint), "adapt": adapt, "lora": {"rank": 4, "alpha": 32}, **init}
    folder.config["proxy"]["tokens"] = 16_384
    folder.write()
    for name in ("results", "checkpoints", "timings"):
        (folder.directory / name).mkdir(exist_ok=True)


def train(folder: Any, run_id: str, stop_at: float = math.inf) -> dict[str, Any]:
    swarm = Swarm(folder.directory)
    train_run(swarm, swarm.runs[run_id], lambda tokens: tokens >= stop_at, checkpoint_seconds=math.inf)
    result: dict[str, Any] = folder.result(run_id)
    return result


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_training_lowers_the_loss_of_its_domain_and_leaves_the_checkpoint_as_it_was(
    folder: Any, checkpoint: Path, adapt: str
) -> None:
    go_on_from(folder, checkpoint, adapt)
    before = file_digest(checkpoint / WEIGHTS)
    folder.add_run("first", {"notes": 1.0})
    folder.add_run("second", {"中文": 1.0})
    notes, chinese = train(folder, "first")["loss_bpb"], train(folder, "second")["loss_bpb"]
    base = read_json(folder.directory / "base.json")["loss_bpb"]
    assert notes["notes"] < min(base["notes"] - 0.1, chinese["notes"])
    assert chinese["中文"] < min(base["中文"] - 0.1, notes["中文"])
    assert file_digest(checkpoint / WEIGHTS) == before


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_stopped_and_resumed_gives_the_bytes_of_an_uninterrupted_run(
    folder: Any, checkpoint: Path, adapt: str, tmp_path: Path
) -> None:
    go_on_from(folder, checkpoint, adapt)
    folder.add_run("run", {"notes": 0.5, "中文": 0.5})
    train(folder, "run")
    whole = (folder.directory / "results" / "run.json").read_bytes()
    base = (folder.directory / "base.json").read_bytes()
    (folder.directory / "results" / "run.json").unlink()
    for stop_at in (2_048, 4_096):
        with pytest.raises(Stopped):
            train(folder, "run", stop_at)
    saved = torch.load(folder.directory / "checkpoints" / "run.pt", weights_only=True)
    assert saved["step"] == 16
    if adapt == "lora":
        assert saved["model"]
        assert all("lora_" in name for name in saved["model"])
    train(folder, "run")
    assert (folder.directory / "results" / "run.json").read_bytes() == whole
    assert (folder.directory / "base.json").read_bytes() == base


def test_the_base_record_is_the_loss_that_transformers_itself_gives_the_checkpoint(
    folder: Any, checkpoint: Path
) -> None:
    from transformers import AutoModelForCausalLM

    go_on_from(folder, checkpoint)
    folder.add_run("run", {"notes": 1.0})
    train(folder, "run", stop_at=math.inf)
    swarm = Swarm(folder.directory)
    stream = torch.from_numpy(swarm.validation["notes"].read(0, 2_000))
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    shown, context, nats = torch.cat([torch.tensor([0]), stream[:-1]]), 32, 0.0
    with torch.no_grad():
        for start in range(0, 2_000, context):
            window = slice(start, start + context)
            nats += float(F.cross_entropy(model(shown[None, window]).logits[0], stream[window], reduction="sum"))
    assert swarm.base()["loss_nats_per_token"]["notes"] == pytest.approx(nats / 2_000, rel=1e-5)  # type: ignore[index]
    assert swarm.base()["tokens"] == 0  # type: ignore[index]


def test_a_run_is_not_finished_before_the_checkpoint_is_measured_and_is_trained_again_for_another_one(
    folder: Any, checkpoint: Path
) -> None:
    go_on_from(folder, checkpoint, sha256="one")
    folder.add_run("a", {"notes": 1.0})
    folder.add_run("b", {"notes": 1.0}, seed=1)
    train(folder, "a")
    train(folder, "b")
    swarm = Swarm(folder.directory)
    assert all(swarm.finished(run) for run in swarm.runs.values())
    swarm.base_path.rename(swarm.directory / "moved.json")
    assert [run_id for run_id, run in swarm.runs.items() if not swarm.finished(run)] == ["a"]
    (swarm.directory / "moved.json").rename(swarm.base_path)
    go_on_from(folder, checkpoint, sha256="another")
    swarm = Swarm(folder.directory)
    assert swarm.base() is None
    assert not any(swarm.finished(run) for run in swarm.runs.values())


def test_runs_from_a_checkpoint_are_never_stacked(folder: Any, checkpoint: Path) -> None:
    go_on_from(folder, checkpoint)
    folder.add_run("run", {"notes": 1.0})
    swarm = Swarm(folder.directory)
    assert keep_stack(swarm, None, [1 << 40]) == 1
    with pytest.raises(RedoneError, match="--stack 4: proxies from a checkpoint are trained one at a time"):
        keep_stack(swarm, 4, [])


def model_of(checkpoint: Path, **init: Any) -> PretrainedModel:
    return PretrainedModel(PretrainedConfig(str(checkpoint), lora=LoraConfig(4, 32), **init), Path(), seed=3)


def test_gradients_added_up_portion_by_portion_are_those_of_the_whole_batch(checkpoint: Path) -> None:
    model = model_of(checkpoint, adapt="full")
    tokens = torch.randint(0, 200, (6, 17), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    expected = F.cross_entropy(model.model(inputs).logits.flatten(0, 1), targets.flatten())
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    for rows_at_once in (1 << 20, 40, 1):  # tokens: all rows, two at a time, one at a time
        model.rows_at_once = rows_at_once
        loss = model.loss(inputs, targets)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        for found, gradient in zip(torch.autograd.grad(loss, list(model.parameters())), wanted, strict=True):
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-7)
        assert model.total_nats(inputs, targets) == pytest.approx(expected.item() * targets.numel(), rel=1e-6)


def test_the_token_before_every_text_is_shown_first_in_every_window(checkpoint: Path) -> None:
    plain, opened = model_of(checkpoint), model_of(checkpoint, bos_token_id=1)
    tokens = torch.randint(5, 200, (3, 9), generator=torch.Generator().manual_seed(0))
    with_bos = tokens.clone()
    with_bos[:, 0] = 1
    assert opened.total_nats(tokens, tokens) == plain.total_nats(with_bos, tokens) != plain.total_nats(tokens, tokens)


def test_adapters_start_from_the_seed_of_their_run_and_from_nothing_else(checkpoint: Path) -> None:
    torch.manual_seed(1)
    first = model_of(checkpoint).state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(first[name], value) for name, value in model_of(checkpoint).state_dict().items())
    other = PretrainedModel(PretrainedConfig(str(checkpoint), lora=LoraConfig(4, 32)), Path(), seed=4).state_dict()
    assert any(not torch.equal(first[name], value) for name, value in other.items())


def test_weights_that_would_have_to_be_unpickled_or_are_missing_are_refused(checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / WEIGHTS)
    dropped = sorted(weights)[-1]
    save_file(
        {name: value for name, value in weights.items() if name != dropped}, checkpoint / WEIGHTS, {"format": "pt"}
    )
    with pytest.raises(RedoneError, match=f"1 weights are not in its files, such as {dropped}"):
        model_of(checkpoint)
    (checkpoint / WEIGHTS).unlink()
    torch.save(weights, checkpoint / "pytorch_model.bin")
    with pytest.raises(RedoneError, match="cannot be loaded as a language model"):
        model_of(checkpoint)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda config: config.update(vocab_size=300), "the checkpoint knows 261 tokens, the pools' tokenizer has 300"),
        (lambda config: config["proxy"].update(context=512, batch_tokens=512), "the checkpoint reads 256 tokens"),
        (lambda config: config["init"].update(path="nowhere"), "give a Hugging Face causal model"),
        (lambda config: config["init"].update(lora={"rank": 0}), "rank is 0 and alpha 32"),
    ],
)
def test_a_checkpoint_that_cannot_read_the_swarm_is_refused_before_a_run_starts(
    folder: Any, checkpoint: Path, spoil: Any, message: str
) -> None:
    go_on_from(folder, checkpoint)
    folder.add_run("run", {"notes": 1.0})
    spoil(folder.config)
    folder.write()
    with pytest.raises(RedoneError, match=message):
        Swarm(folder.directory)


def cpt_recipe(recipe: SmallRecipe, **swarm: Any) -> SmallRecipe:
    proxy = {"tokens": 2_048, "context": 32, "batch_tokens": 256}
    swarm = {"proxy": proxy, "init": "checkpoint", "lora": {"rank": 4}, "validation_tokens": 2_000, **swarm}
    write_model(recipe.path.parent / "checkpoint")
    mix = {"design": {"runs": 3}, "rounds": {"max": 0}, "swarm": swarm, "validate": {"seeds": 1}}
    return recipe.change(lambda values: values.update(mix=mix))


@pytest.mark.usefixtures("one_core")
def test_a_recipe_with_a_checkpoint_trains_on_its_tokens_and_gives_weights_in_those_of_the_target(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    out = cpt_recipe(recipe).mixed(tmp_path / "out", "tokens.budget=60000", until="swarm")
    (folder,) = (out / "steps").glob("swarm-*")
    config = json.loads((folder / "swarm.json").read_bytes())
    assert config["vocab_size"] == 261
    assert (folder / config["init"]["path"] / WEIGHTS).is_file()
    assert config["init"]["bos_token_id"] is None
    given, trained_on = _rows(folder / "mixtures.csv"), _rows(folder / "runs.csv")
    # A Chinese character is three tokens of the checkpoint's bytes, and fewer of the target's.
    target, proxy = (pools(Output.open(path)) for path in _pools_of(out, config))
    for run_id, weights in given.items():
        text = {name: weight * target[name].bytes / target[name].tokens for name, weight in weights.items()}
        shown = {n: weight * proxy[n].bytes / proxy[n].tokens for n, weight in trained_on[run_id].items()}
        for name in weights:
            assert shown[name] / sum(shown.values()) == pytest.approx(text[name] / sum(text.values()), rel=1e-9)
    assert given["run-0000"] != pytest.approx(trained_on["run-0000"], abs=0.01)
    # The prior is repeated as often as the real run repeats it.
    for name, domain in config["domains"].items():
        real_epochs = given["run-0000"][name] * 60_000 / target[name].tokens
        proxy_epochs = trained_on["run-0000"][name] * 2_048 / domain["train_limit_tokens"]
        assert proxy_epochs == pytest.approx(real_epochs, rel=0.02)
    swarm = trained(folder)
    for run_id, weights_D in zip(swarm.run_ids, swarm.weights_RD, strict=True):
        assert dict(zip(swarm.domains, weights_D.tolist(), strict=True)) == pytest.approx(given[run_id])
    base = base_losses(folder)
    assert base is not None
    assert set(base) == {"notes", "posts", "wiki"}
    assert swarm.losses("notes").min() < base["notes"]
    # Moved to another machine, the folder of the run is whole: nothing points outside it.
    assert str(tmp_path) not in (folder / "swarm.json").read_text(encoding="utf-8")


# Stands where the swarm command stands: every metric is one bit per byte.
FLAT = """
import csv, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
domains = sorted(json.loads((folder / "swarm.json").read_text())["domains"])
runs = [run["run_id"] for run in csv.DictReader((folder / "runs.csv").open())]
lines = [",".join([run, *(["1.0"] * len(domains))]) for run in runs]
(folder / "metrics.csv").write_text("\\n".join([",".join(["run_id", *domains]), *lines]) + "\\n")
"""


def test_an_ablation_trains_from_the_checkpoint_that_the_recipe_names_on_its_tokens(
    recipe: SmallRecipe, tmp_path: Path
) -> None:
    trainer = tmp_path / "trainer.py"
    trainer.write_text(FLAT)
    cpt_recipe(recipe, command=f"{shlex.quote(sys.executable)} {shlex.quote(str(trainer))} {{dir}}")
    # With weights given no swarm is needed, so the pipeline alone would not tokenize for proxies.
    recipe.change(lambda values: values["mix"].update(weights={"notes": 1, "posts": 1, "wiki": 1}))
    loaded = load_recipe(recipe.path)
    off = chosen(variants(loaded.recipe), ["without deduplication"])
    found = Ablator(loaded, tmp_path / "out", Silent(), seeds=2, min_share=0).measure(off)
    assert found.scale == "checkpoint (lora) x 0.002048M tokens"
    folders = sorted((tmp_path / "out" / "steps").glob("ablation-swarm-*"))
    assert len(folders) == 2
    trained_on = set()
    for folder in folders:
        config = json.loads((folder / "swarm.json").read_bytes())
        assert (folder / config["init"]["path"] / WEIGHTS).is_file()
        assert config["vocab_size"] == 261
        trained_on.add(tuple(_rows(folder / "runs.csv")["seed-1"].items()))
    ((*shares,),) = trained_on
    # A Chinese character is three tokens of the checkpoint's bytes: equal text is more of its tokens.
    assert dict(shares)["posts"] > 0.34


def test_a_checkpoint_that_is_none_is_the_users_to_mend(recipe: SmallRecipe, tmp_path: Path) -> None:
    checkpoint = cpt_recipe(recipe).path.parent / "checkpoint"
    (checkpoint / WEIGHTS).rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(RedoneError, match="weights are read from safetensors only"):
        recipe.mixed(tmp_path / "out", until="swarm")
    (checkpoint / "config.json").unlink()
    with pytest.raises(RedoneError, match=r"mix\.swarm\.init: .* no config\.json"):
        recipe.mixed(tmp_path / "out", until="swarm")


def test_a_tokenizer_that_opens_every_text_is_noticed(checkpoint: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    path = checkpoint / "tokenizer.json"
    assert opening_token(path) is None
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.post_processor = TemplateProcessing(single="<user> $A", special_tokens=[("<user>", 1)])
    tokenizer.save(str(path))
    assert opening_token(path) == 1


def _rows(path: Path) -> dict[str, dict[str, float]]:
    header, *lines = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0]: dict(zip(header[2:], map(float, line[2:]), strict=True)) for line in lines}


def _pools_of(out: Path, config: dict[str, Any]) -> tuple[Path, Path]:
    """The folders of the target's pool and of the proxies'."""
    proxy = config["domains"]["notes"]["train"][0].split("/")[1]
    (target,) = (path for path in (out / "steps").glob("pool-*") if path.name != proxy)
    return target, out / "steps" / proxy
