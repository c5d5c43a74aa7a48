"""`samiro-bench oracle`: the frozen networks that methods compare a detector's features with. One module a verb."""

from __future__ import annotations

import typer

from harness.cli import oracle_list, oracle_pretrain, oracle_probe

app = typer.Typer(
    add_completion=False,
    help="Oracles: pre-train one on any folder of images, list what there are, and probe what they know of lanes.",
)
app.command(epilog=oracle_pretrain.EPILOG)(oracle_pretrain.pretrain)
app.command("list", epilog=oracle_list.EPILOG)(oracle_list.list_oracles)
app.command("probe", epilog=oracle_probe.EPILOG)(oracle_probe.probe_oracles)
