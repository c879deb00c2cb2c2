"""What a recipe says about proxies and their launch."""

from pathlib import Path

import pytest

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_data.mix.config import MixConfig
from redone_data.mix.swarm import ProxyConfig, SwarmConfig, training_command
from redone_data.proxy_shape import SIZES, ProxyShape


@pytest.mark.parametrize("text", ["layers: 3\nwidth: 96\nheads: 3\n", '{"layers": 3, "width": 96, "heads": 3}'])
def test_a_size_is_read_from_a_file_beside_the_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "shape.yaml").write_text(text)
    config = ProxyConfig(size="shape.yaml").resolved(tmp_path)
    assert config.size == ProxyShape(layers=3, width=96, heads=3)
    assert config.resolved() == config
    assert ProxyConfig(size="1m").resolved(tmp_path).size == "1m"


def test_a_file_without_a_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text('{"layers": 3, "widht": 96, "heads": 3}')
    with pytest.raises(RedoneError, match=r"shape\.json.*did you mean 'width'"):
        ProxyConfig(size="shape.json").resolved(tmp_path)


def test_a_launch_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(RedoneError, match="slurm: is set, but launch is not slurm"):
        SwarmConfig(slurm={"partition": "gpu"})
    with pytest.raises(RedoneError, match="command and stack, launch or device are both set"):
        SwarmConfig(command="train {dir}", launch="ray")
    with pytest.raises(RedoneError, match="command and stack, launch or device are both set"):
        SwarmConfig(command="train {dir}", device="cpu")
    with pytest.raises(RedoneError, match="stack: 0; at least 1"):
        SwarmConfig(stack=0)


def test_a_size_that_the_trainer_does_not_have_is_refused_before_anything_is_read() -> None:
    mix = {"swarm": {"proxy": {"size": "0.3mm"}}}
    with pytest.raises(RedoneError, match=r"proxy\.size: unknown size '0\.3mm'; did you mean '0\.3m'"):
        read_config(MixConfig, mix, where="recipe.yaml")
    for key in ("proxy", "target"):
        with pytest.raises(RedoneError, match=rf"validate\.{key}\.size: unknown size '7b'.*0\.1m"):
            read_config(MixConfig, {"validate": {key: {"size": "7b", "tokens": 9}}}, where="recipe.yaml")
    for size in (*SIZES, "counts", "shape.yaml"):
        assert SwarmConfig(ProxyConfig(size)).proxy.size == size


def test_a_shape_that_no_model_can_have_is_refused_in_the_recipe() -> None:
    mix = {"swarm": {"proxy": {"size": {"layers": 2, "width": 100, "heads": 3}}}}
    with pytest.raises(RedoneError, match="width must be a multiple of twice its heads"):
        read_config(MixConfig, mix, where="recipe.yaml")


def test_a_trainer_of_ones_own_may_have_sizes_of_its_own() -> None:
    mix = {"swarm": {"command": "train {dir}", "proxy": {"size": "tiny"}}}
    mix["validate"] = {"proxy": {"size": "less-tiny", "tokens": 9}}
    assert read_config(MixConfig, mix, where="recipe.yaml").swarm.proxy.size == "tiny"


def test_a_cluster_without_gpus_is_reached_from_the_recipe() -> None:
    pytest.importorskip("torch")
    config = read_config(SwarmConfig, {"launch": "slurm", "device": "cpu", "slurm": {"partition": "cpu"}}, where="r")
    arguments = training_command(config, Path("folder"))
    assert arguments[-6:] == ["--launch", "slurm", "--device", "cpu", "--slurm-option", "partition=cpu"]
    assert training_command(SwarmConfig(), Path("folder"))[-4:] == ["--launch", "local", "--device", "auto"]
