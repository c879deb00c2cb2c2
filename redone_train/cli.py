"""The command `redone-train`: verbs that need torch. A user's error is one line on stderr and exit code 2."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError
from redone_train.swarm import CHECKPOINT_SECONDS, RunFailedError, SwarmOptions, train_swarm
from redone_train.swarm_groups import group_numbers

SIGINT_EXIT_CODE = 128 + signal.SIGINT
FAILURE_EXIT_CODE = 1
RANK_0_SECONDS = 5

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def redone_train(
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,  # of `deepspeed`
) -> None:
    """Train what redone-data prepares: proxy models and large ones. Ask what was trained."""


@app.command()
def swarm(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A swarm folder: swarm.json, runs.csv and the token pools they name.")
    ],
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Groups of runs trained side by side.", show_default="one a GPU, or a usable core"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a process; one is fastest for proxies.")] = 1,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="How often a group under way is saved.")
    ] = CHECKPOINT_SECONDS,
    stack: Annotated[
        int | None,
        typer.Option(min=1, help="Runs in a stacked model.", show_default="by GPU memory; 1 on a CPU"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="torch.compile, on GPUs.")] = True,
    groups: Annotated[
        str | None, typer.Option(metavar="N,N", help="Only these groups of K runs, numbered from 0.")
    ] = None,
    launch: Annotated[
        Literal["local", "ray", "slurm"], typer.Option(help="Here, or a task a group on a cluster.")
    ] = "local",
    slurm_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of sbatch, for example partition=gpu; repeatable.")
    ] = None,
) -> None:
    """Train every run of a swarm that has no result yet, and write metrics.csv.

    Stopped or killed at any moment, the same command goes on where it stopped and gives the same numbers.
    """
    options = SwarmOptions(
        processes=processes,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        stack=stack,
        device=device,
        compiled=compiled,
    )
    numbers = None if groups is None else group_numbers(groups)
    slurm = dict(option.removeprefix("--").partition("=")[::2] for option in slurm_option or [])
    if launch == "local":
        if slurm:
            raise RedoneError("--slurm-option needs --launch slurm")
        train_swarm(directory, options, numbers)
        return
    if numbers is not None:
        raise RedoneError("--groups and --launch exclude each other; a launcher gives each task its group")
    from redone_train.swarm_launch import launch_swarm

    launch_swarm(directory, launch, options, slurm)


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="The folder of a Hugging Face causal model.")],
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS.jsonl", help="A line each: prompt (a text or chat messages), id.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="ANSWERS.jsonl", help="A line a prompt: id, answers.")],
    num_answers: Annotated[int, typer.Option("--num-answers", help="Answers to each prompt.")] = 1,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Of an answer, at most.")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", help="0: the likeliest token each time.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Sample from the likeliest tokens of this share.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of sampling.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Prompts at a time.")] = 16,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, cuda:1, ...", show_default="cuda if any")
    ] = "auto",
    thinking: Annotated[
        bool, typer.Option("--thinking", help="Let a chat template that can open with thoughts.")
    ] = False,
) -> None:
    """Answer prompts with a local model.

    Stopped or killed at any moment, the same command goes on where it stopped; answered prompts are not asked again.
    """
    from redone_train.generate import Sampling
    from redone_train.generate import generate as answer

    sampling = Sampling(num_answers, max_new_tokens, temperature, top_p, seed, thinking)
    done = answer(model, prompts, out, sampling, batch_size=batch_size, device=device)
    too_long = f", {done.too_long} too long for the model's context" if done.too_long else ""
    typer.echo(f"{done.prompts} prompts, {done.asked} of them asked now{too_long}: {out}", err=True)


Config = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to train on what; docs/training.md.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Over the file's, for example batch.rows=256; repeatable."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what the run would be and need, and how to launch it; train nothing.")
]
Gpus = Annotated[
    int | None, typer.Option("--gpus", min=1, help="With --dry-run: as if on so many GPUs.", show_default="as here")
]


def _train(
    run: Callable[[Path, tuple[str, ...]], bool], config: Path, settings: list[str] | None, gpus: int | None
) -> None:
    from redone_train.train.stopping import STOPPED_EXIT_CODE

    if gpus is not None:
        raise RedoneError("--gpus belongs to --dry-run; a launcher says how many take part in a run")
    if not run(config, tuple(settings or ())):
        raise typer.Exit(STOPPED_EXIT_CODE)


@app.command()
def cpt(config: Config, settings: Settings = None, dry_run: DryRun = False, gpus: Gpus = None) -> None:
    """Continue the pre-training of a model, or start that of a new one, on token datasets.

    One process as it stands; as many as there are GPUs through a launcher, with the same configuration:

        torchrun --nproc-per-node 8 -m redone_train cpt CONFIG.yaml

        deepspeed --module redone_train cpt CONFIG.yaml

        srun --ntasks-per-node 8 redone-train cpt CONFIG.yaml

    Stopped or killed at any moment, the same command goes on from the newest good checkpoint in `output`, with the
    very batches that would have come, on any number of GPUs. Exit code 75: it was asked to stop, and saved.
    """
    if dry_run:
        from redone_train.dry_run import dry_run_cpt

        dry_run_cpt(config, tuple(settings or ()), gpus)
        return
    from redone_train.cpt import run_cpt

    _train(run_cpt, config, settings, gpus)


@app.command()
def sft(config: Config, settings: Settings = None, dry_run: DryRun = False, gpus: Gpus = None) -> None:
    """Tune a model on conversations, in one step or several, each from the weights of the one before.

    Launched, stopped and gone on with as `redone-train cpt`; a step that is finished is not run again.
    """
    if dry_run:
        from redone_train.post_dry_run import dry_run_sft

        dry_run_sft(config, tuple(settings or ()), gpus)
        return
    from redone_train.sft import run_sft

    _train(run_sft, config, settings, gpus)


@app.command()
def dpo(config: Config, settings: Settings = None, dry_run: DryRun = False, gpus: Gpus = None) -> None:
    """Teach a model which of two answers to prefer (DPO, IPO, RPO).

    Launched, stopped and gone on with as `redone-train cpt`; stops early where the held-out accuracy falls.
    """
    if dry_run:
        from redone_train.post_dry_run import dry_run_dpo

        dry_run_dpo(config, tuple(settings or ()), gpus)
        return
    from redone_train.dpo import run_dpo

    _train(run_dpo, config, settings, gpus)


@app.command(name="eval")
def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG.yaml", help="What to measure; docs/evaluation.md. With --compare: results."),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Two or more results.json against the first, on the same items.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="With --compare: the differences, as JSON.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Over the file's, for example max_items=32; repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask endpoints; else what it costs is shown first.")] = False,
) -> None:
    """Measure models: benchmarks, labelled sets, bits per byte; a table, results.json and page.html with intervals.

    Stopped or killed at any moment, the same command goes on where it was; answers are kept.
    """
    if compare:
        from redone_train.evaluation import compare_results

        compare_results(files, out)
        return
    if len(files) > 1 or out is not None:
        raise RedoneError("eval takes one CONFIG.yaml; several files and --out belong to --compare")
    from redone_train.evaluation import run_evaluation

    run_evaluation(files[0], tuple(settings or ()), confirmed=yes)


@app.command()
def ladder(
    config: Annotated[
        Path, typer.Argument(metavar="LADDER.yaml", help="Stages, arms and their evaluation; docs/evaluation.md.")
    ],
    settings: Settings = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STAGE", help="This stage and what it stands on; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say in which order what would be trained on what; train nothing.")
    ] = False,
) -> None:
    """Train stages and arms one after another, each from the one before; measure them all on the same items.

    Stopped or killed at any moment, the same command goes on where it was; what is finished is not run again.
    """
    from redone_train.evaluate.show import print_tables
    from redone_train.ladder import dry_run_ladder, run_ladder
    from redone_train.train.stopping import STOPPED_EXIT_CODE

    if dry_run:
        dry_run_ladder(config, tuple(settings or ()), tuple(only or ()))
        return
    found = run_ladder(config, tuple(settings or ()), tuple(only or ()))
    if found is None:
        raise typer.Exit(STOPPED_EXIT_CODE)
    print_tables(found)


@app.command()
def results(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS.json", help="What eval or ladder wrote (or their folder); one or more."),
    ],
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE.md", help="Write the tables there, and plots into the folder FILE."),
    ] = None,
) -> None:
    """Show results in the layout of the paper's tables: scores, gains with their intervals, retention, stages."""
    from redone_train.evaluate.show import show_results

    show_results(files, markdown)


@app.command()
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT_OR_RUN", help="RUN/checkpoints/step-N, or RUN: its newest good one; or a GGUF file."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    dtype: Annotated[Literal["bf16", "fp32"], typer.Option("--dtype", help="Of the weights.")] = "bf16",
    merge: Annotated[
        bool, typer.Option("--merge", help="Adapters (LoRA) into the model that they were trained on.")
    ] = False,
    base: Annotated[Path | None, typer.Option("--base", metavar="FOLDER", help="That model, if it has moved.")] = None,
) -> None:
    """Write a checkpoint as a Hugging Face folder: safetensors, configuration, tokenizer.

    One process and no GPU, whatever the number of ranks and the ZeRO stage that wrote it. A GGUF file too, in bf16:
    for its tokenizer.json, by which a recipe makes the tokens.
    """
    if source.suffix == ".gguf":
        if merge or base is not None or dtype != "bf16":
            raise RedoneError(f"{source}: a GGUF file is written whole and in bf16; leave the options out")
        from redone_train.train.gguf import unpack

        typer.echo(f"{source.name}: model of {unpack(source, out):,} parameters, bf16: {out}", err=True)
        return
    from redone_train.train.export import export as write

    done = write(source, out, dtype=dtype, merge=merge, base=base)
    size = f"{done.kind} of {done.num_parameters:,} parameters, {dtype}"
    typer.echo(f"{done.checkpoint.folder.name}: {size}: {done.folder}", err=True)


@app.command()
def score(
    task: Annotated[
        Path,
        typer.Argument(metavar="TASK.json", help="A file of SNS-Bench (Note-NER.json, ...), or RedTrans-Bench.json."),
    ],
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS.jsonl", help="A line an item: index, answer.")],
    scorer: Annotated[
        Literal["official", "fixed"], typer.Option("--scorer", help="The published one, bug for bug, or ours.")
    ] = "official",
    name: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Which file TASK.json is.", show_default="by its name")
    ] = None,
    embedding: Annotated[
        Path | None,
        typer.Option("--embedding", metavar="FOLDER", help="A sentence-embedding model, for Note-QueryGen."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 1,
) -> None:
    """Score answers that any model gave to a benchmark's file; prints JSON.

    Beside the score stand its parts, a bootstrap interval, what the best trivial answer and the gold answers score on
    the same items, and the share of answers that could be read. No answer is ever executed.
    """
    import json

    from redone_train.evaluate.scoring import score_file

    typer.echo(json.dumps(score_file(task, answers, scorer, name=name, embedding=embedding, seed=seed), indent=1))


@app.command()
def split(
    benchmark: Annotated[
        Path, typer.Argument(metavar="BENCHMARK", help="A folder with SNS-Bench's files or RedTrans-Bench.json.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    test: Annotated[int, typer.Option("--test", min=1, help="Items of each file to measure on, at least.")] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.")] = 1,
) -> None:
    """Cut a benchmark in two that share no post: a part to train on, a part to measure on.

    OUT/test has the benchmark's files, for `eval`; OUT/train.jsonl the rest as conversations, for `sft`. Scores on a
    part are not the published benchmark's.
    """
    from redone_train.evaluate.split import split as cut

    found = cut(benchmark, out, num_test=test, seed=seed)
    for name, counts in vars(found).items():
        typer.echo(f"{name}: {sum(counts.values()):,}: " + ", ".join(f"{task} {n}" for task, n in counts.items()))


def main() -> None:
    try:
        app()
    except RedoneError as error:
        if int(os.environ.get("RANK", 0)):
            time.sleep(RANK_0_SECONDS)  # a launcher ends all ranks when one ends, and rank 0 is to say why
        else:
            print(f"redone-train: {error}", file=sys.stderr, flush=True)
        sys.exit(USER_ERROR_EXIT_CODE)
    except RunFailedError as error:
        print(f"redone-train: {error}", file=sys.stderr)
        sys.exit(FAILURE_EXIT_CODE)
    except KeyboardInterrupt:
        sys.exit(SIGINT_EXIT_CODE)
