"""The command that serves an index to agents."""

import logging

import typer

from mretrieve import arguments as take
from mretrieve import report

app = typer.Typer()


@app.command(
    short_help="Serve an index to agents (MCP).",
    epilog="Example: mretrieve mcp /path/to/my-index, as the command in an agent's settings",
)
def mcp(
    path: take.Index,
    model: take.SameModel = None,
    device: take.Device = "auto",
    dtype: take.Dtype = "auto",
    fusion: take.Fusion = None,
) -> None:
    """Serve an index to agents through the Model Context Protocol, by standard input and output.

    The agent's program starts this command itself, and sees one tool: `search`.
    """
    from mretrieve.rank.retriever import Retriever
    from mretrieve.serve.mcp import run_mcp

    _keep_one_voice()
    run_mcp(path, lambda: Retriever(path, model=model, device=device, dtype=dtype, fusion=fusion))


def _keep_one_voice() -> None:
    """Have the SDK's warnings told as ours are; it would set up logging of its own, with each line twice."""
    logging.getLogger().addHandler(logging.NullHandler())
    sdk = logging.getLogger("mcp")
    sdk.addHandler(report.ToStderr())
    sdk.setLevel(logging.WARNING)
