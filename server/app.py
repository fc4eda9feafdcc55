"""Be the ServerApp: run what the run folder orders, over Flower's grid."""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from protocols.carriers.flower_road import RUN_DIR, VILLAGE, require_bundle
from protocols.session import MemberId
from server.dialling import Dialled
from server.grid import GridCarrier, await_nodes, partitions
from server.orders import Road
from server.rounds import RunFolder, run

PATIENCE_S = 60.0  # for members to connect before the first letter
FAREWELL_S = 30.0  # for members to take their last receipts; a session that is not closed costs nobody anything

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Run the order in the folder that the run config names.

    Raises: ImportError if our modules come from anywhere but the bundle; what a bug raises, once it is written down.
    """
    require_bundle(__file__)
    folder = RunFolder(Path(str(context.run_config[RUN_DIR])))
    (folder.root / "main").write_text(repr(time.time()), encoding="ascii")  # when the app was reached
    nodes = _nodes(grid, folder, simulated=bool(context.run_config.get(VILLAGE)))
    await_nodes(grid, nodes.values(), PATIENCE_S)
    order = folder.order()
    flower = GridCarrier(grid, nodes, order.deadline_s)
    carrier: GridCarrier | Dialled = flower
    if order.carrier is Road.STREAM and folder.who().coordinator:  # a simulation has no hub
        carrier = Dialled(folder, flower)

    def hurry() -> None:
        carrier.deadline_s = min(carrier.deadline_s, FAREWELL_S)

    try:
        run(folder, carrier, lambda: carrier.silent, hurry)
    finally:
        if isinstance(carrier, Dialled):
            carrier.close()


def _nodes(grid: Grid, folder: RunFolder, *, simulated: bool) -> dict[MemberId, int]:
    """Return each member's node: as it enrolled, or in a simulation the node of its place in the order."""
    members = [MemberId(m) for m in folder.order().members]
    if simulated:
        found = partitions(grid, len(members), PATIENCE_S)
        return {m: found[place] for place, m in enumerate(members) if place in found}
    nodes = folder.who().nodes
    return {m: int(nodes[m]) for m in members if m in nodes}
