"""What each collaboration may ask of a home: one file for each, and here which letter gets which."""

from collections.abc import Mapping

from client.homes.average import AverageVisit
from client.homes.counting import CountingVisit
from client.homes.logits import LogitsVisit
from client.homes.merge import MergeVisit
from client.homes.pooled import PooledVisit
from client.homes.pretrain import PretrainVisit
from client.homes.stream import StreamVisit
from client.homes.talking import ElectingVisit, TalkingVisit
from client.homes.utility import UtilityVisit
from client.visit import Visit

VISITS: Mapping[str, type[Visit]] = {
    "abstain": TalkingVisit,
    "average": AverageVisit,
    "blackboard": TalkingVisit,
    "blend": TalkingVisit,
    "cards": TalkingVisit,
    "contrast": LogitsVisit,
    "critique": TalkingVisit,
    "debate": TalkingVisit,
    "distill": LogitsVisit,
    "evolve": CountingVisit,
    "extrapolate": UtilityVisit,
    "feedback": TalkingVisit,
    "keyphrases": CountingVisit,
    "merge": MergeVisit,
    "mixture": LogitsVisit,
    "panel": ElectingVisit,
    "pooled": PooledVisit,
    "pretrain": PretrainVisit,
    "private_predict": LogitsVisit,
    "product": LogitsVisit,
    "search": UtilityVisit,
    "soup": UtilityVisit,
    "stream": StreamVisit,
    "vote": ElectingVisit,
}
