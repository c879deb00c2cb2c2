"""What a recipe says about proxies and their launch."""

from pathlib import Path

import pytest

from redone_data.errors import RedoneError
from redone_data.mix.swarm import ProxyConfig, ProxyShape, SwarmConfig


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
    with pytest.raises(RedoneError, match="command and stack or launch are both set"):
        SwarmConfig(command="train {dir}", launch="ray")
    with pytest.raises(RedoneError, match="stack: 0; at least 1"):
        SwarmConfig(stack=0)
