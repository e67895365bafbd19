"""Who pays whom for permits: flows between kinds of agents, and the agents in the middle."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Canvas

from agent_economy.runs.reader import Run
from analysis.cells import agent_names
from analysis.figures.base import Figure, Missing
from analysis.style import BLOCK, HEAD, HEAT, WIDTH_IN, frame_all

_TOP = 14


class PermitFlows(Figure):
    """Left: credits between layers' heads and blocks; right: the agents that money passes."""

    name = "permit_flows"
    title = "Who pays whom"
    question = (
        "Between whom does money flow, and who stands in the middle? Left: share of all credits "
        "that the row's agents paid the column's, all seeds and windows. Right: the agents of "
        "highest weighted PageRank, mean over seeds (even: 1 / number of agents)."
    )
    needs = ("permit_flows", "permit_agents")
    place = 13
    scenario = "cap_and_trade"

    def data(self, run: Run) -> pd.DataFrame:
        """Flows between groups, and PageRank of the most central agents, of one cell."""
        flows, agents = run.table("permit_flows"), run.table("permit_agents")
        if flows.empty:
            raise Missing("nobody traded permits")
        purse = "thin" if "thin" in set(flows["purse"]) else flows["purse"].iloc[0]
        flows = flows[flows["purse"] == purse]
        flows = flows[flows["rule"] == flows["rule"].iloc[0]]
        shown = {"rule": flows["rule"].iloc[0], "purse": purse}
        agents = agents[(agents["purse"] == purse) & (agents["rule"] == shown["rule"])]
        one = agents[agents["seed"] == agents["seed"].iloc[0]].reset_index(drop=True)
        group = "L" + one["layer"].astype(str) + " " + one["kind"] + "s"
        between = pd.DataFrame(
            {
                "payer": flows["payer"].map(group),
                "payee": flows["payee"].map(group),
                "share": flows["credits"] / flows["credits"].sum(),
            }
        )
        between = between.groupby(["payer", "payee"]).sum().reset_index()
        ranked = agents.assign(name=agent_names(agents)).groupby(["name", "kind"])
        ranked = ranked["pagerank"].mean().nlargest(_TOP).reset_index()
        central = ranked.rename(columns={"name": "payee", "kind": "payer", "pagerank": "share"})
        parts = [between.assign(part="flow"), central.assign(part="central")]
        return pd.concat(parts, ignore_index=True).assign(**shown)

    def draw(self, data: pd.DataFrame) -> Canvas:
        """Heat map and bars."""
        flow, central = data[data["part"] == "flow"], data[data["part"] == "central"]
        matrix = flow.pivot_table(index="payer", columns="payee", values="share", fill_value=0.0)
        order = sorted({*matrix.index, *matrix.columns}, key=lambda name: (name[-6:], name))
        matrix = matrix.reindex(index=order, columns=order, fill_value=0.0)
        canvas = Canvas(figsize=(WIDTH_IN, 4.4), layout="constrained")
        left, right = canvas.subplots(1, 2, width_ratios=[1.5, 1])
        image = left.imshow(matrix, cmap=HEAT, vmin=0)
        left.set_xticks(range(len(order)), order, rotation=90, fontsize=8)
        left.set_yticks(range(len(order)), order, fontsize=8)
        left.set_xlabel("is paid")
        left.set_ylabel("pays")
        frame_all(left)
        canvas.colorbar(image, ax=left, label="share of all credits")
        look = [HEAD if kind == "head" else BLOCK for kind in central["payer"]]
        right.barh(central["payee"], central["share"], color=look)
        right.invert_yaxis()
        right.tick_params(axis="y", labelsize=8)
        right.set_xlabel("PageRank (blue: head, orange: block)")
        first = data.iloc[0]
        canvas.suptitle(f"permits by {first['rule']}, {first['purse']} purses", fontsize=11)
        return canvas
