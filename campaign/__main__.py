"""The campaign's command line: ``python -m campaign [-n N] [--only NAME] [--list]``."""

import importlib
import time
from pathlib import Path

import click

from campaign.attack import Attack, NotRunError, Outcome
from campaign.place import ROOT, Place
from campaign.registry import ATTACKS
from campaign.report import line, table, write_section
from conf.command import note, run
from conf.progress import Progress
from conf.wording import duration

DOCUMENT = ROOT / "docs" / "reliability.md"
# A loss is printed with this many of its kind at most; all are counted.
PRINTED = 10


@click.command("campaign")
@click.option(
    "-n",
    "--n",
    "n",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="Size: 1 is for CI; docs/reliability.md has the sizes of its figures.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([attack.name for attack in ATTACKS]),
    help="Only this attack; repeatable.",
)
@click.option("--seed", default=1, show_default=True, help="Chance: the same seed tries the same.")
@click.option("--write", is_flag=True, help="Write the table of docs/reliability.md.")
@click.option("--list", "listed", is_flag=True, help="List the attacks with their tries.")
def main(n: float, only: tuple[str, ...], seed: int, write: bool, listed: bool) -> None:
    """Attack the whole chain, on servers of the campaign's own, and count what is lost.

    One line an attack, and a table at the end. Exit code 1 where anything was lost. Works in a temporary folder, or in one below
    TINYTAGS_CAMPAIGN_DIR.
    """
    chosen = [attack for attack in ATTACKS if (not only or attack.name in only)]
    if listed:
        for attack in chosen:
            click.echo(f"{attack.name:18}{attack.tries(n):7,}  {attack.figure}")
        return
    began = time.monotonic()
    results = []
    with Place(seed, note) as place:
        for attack in chosen:
            # One that was asked for by name is tried at least once.
            tries = max(attack.tries(n), 1 if only else 0)
            if not tries:
                continue
            outcome = perform(attack, place, tries)
            note(line(attack, outcome))
            for loss in outcome.losses[:PRINTED]:
                note(f"  lost: {loss}")
            results.append((attack, outcome))
    click.echo(table(results))
    lost = sum(len(outcome.losses) for _, outcome in results)
    click.echo(f"campaign of N={n:g}: {duration(time.monotonic() - began)}, {lost:,} lost")
    if write:
        write_section(Path(DOCUMENT), n, seed, results)
    raise click.exceptions.Exit(1 if lost else 0)


def perform(attack: Attack, place: Place, tries: int) -> Outcome:
    """Return the outcome of an attack; an attack that fails itself counts as a loss."""
    began = time.monotonic()
    try:
        with Progress(attack.name, tries, "tries") as progress:
            place.progress = progress.add
            outcome: Outcome = importlib.import_module(f"campaign.attacks.{attack.name}").attack(place, tries)
    except NotRunError as error:
        outcome = Outcome(not_run=str(error))
    except Exception as error:
        outcome = Outcome(losses=[f"the attack itself failed: {type(error).__name__}: {error}"])
    outcome.seconds = time.monotonic() - began
    return outcome


if __name__ == "__main__":
    run(main)
