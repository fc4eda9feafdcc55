"""Write `home.toml` and `road/road.toml` for people: a comment on each key; what is off is commented out."""

import json

from client.documents import Content
from client.settings import (
    DataSettings,
    DoorSettings,
    Dtype,
    ExpertSettings,
    LoraSettings,
    ModelSettings,
    PageSettings,
    PersonalSettings,
    RoadSettings,
    Settings,
    TrainingSettings,
)
from client.training.ways import Checkpointing, Precision


def home_toml(settings: Settings) -> str:
    """Return the text of home.toml, commented."""
    data, coordinator = settings.data, settings.coordinator
    return f"""\
# The home of one member. An unknown key is an error. What this member agrees to is in policy.toml.
member = {_toml(settings.member)}
ledger = {_toml(str(settings.ledger))}  # one ledger per data set: another home with the same data names it too
{_seed(settings.unsafe_seed)}
[coordinator]
address = {_toml(coordinator.address)}
key = {_toml(coordinator.key)}  # letters signed with another key are refused

[model]
name = {_toml(settings.model.name)}  # a folder as transformers saves it, or the id of a model in the local cache
threads = {settings.model.threads}  # of the processor, for training
{_kept(settings.model)}
[data]
path = {_toml(str(data.path))}
format = {_toml(data.format.value)}  # auto, jsonl, text, folder, datasets
text_column = {_toml(data.text_column)}  # where the text is, in jsonl and datasets
{_rows(data)}\
account = {_toml(data.account)}  # its name in the ledger, which knows data by its documents: another is no new budget
# How much data there is, roughly. These numbers are PUBLIC: they set the sampling rate that epsilon rests on.
# They were counted and rounded down to two digits. Keep them fixed while the data changes a little.
declared_documents = {data.declared_documents}
declared_tokens = {data.declared_tokens}
{_groups(data)}
{_personal(settings.personal)}
{_expert(settings.expert)}
{_lora(settings.lora)}
{_training(settings.training)}
{_door(settings)}
{_page(settings.page)}"""


def road_toml(settings: RoadSettings) -> str:
    """Return the text of road.toml."""
    return f"""\
# What the SuperNode of one member needs; nothing here is private to its data.
member = {_toml(settings.member)}
address = {_toml(settings.address)}
socket = {_toml(str(settings.socket))}  # where the member's daemon answers letters
"""


def _seed(seed: int | None) -> str:
    return (
        ""
        if seed is None
        else f"unsafe_seed = {seed}  # all randomness comes from it, noise included: no protection\n"
    )


def _kept(model: ModelSettings) -> str:
    """Return how the weights are kept in memory, commented out where nothing was chosen."""
    dtype = model.dtype.value if model.dtype is not Dtype.AUTO else "bfloat16"
    lines = (
        (model.dtype is not Dtype.AUTO, f"dtype = {_toml(dtype)}  # of the weights in memory; auto is as saved"),
        (model.bits is not None, f"bits = {model.bits or 8}  # 4 or 8 for the base weights; needs bitsandbytes"),
    )
    return "".join(f"{'' if chosen else '# '}{line}\n" for chosen, line in lines)


def _rows(data: DataSettings) -> str:
    """Return what a row is and whose, commented out where it is plain text of nobody."""
    told = (
        (data.content is not Content.TEXT, f"content = {_toml(data.content.value)}", "text, chat or preference"),
        (data.group_column is not None, f"group_column = {_toml(data.group_column or 'user')}",
         "whose a row is, for a budget per group; another column is another promise: do not change it"),
        (data.validation > 0, f"validation = {data.validation or 0.1}",
         "the share of records never trained on: soup, search and extrapolate judge on them"),
    )  # fmt: skip
    return "".join(f"{'' if chosen else '# '}{line}  # {why}\n" for chosen, line, why in told)


def _groups(data: DataSettings) -> str:
    return f"declared_groups = {data.declared_groups}\n" if data.group_column is not None else ""


def _personal(personal: PersonalSettings | None) -> str:
    """Return the table of the private adapter, commented out where there is none."""
    p = personal or PersonalSettings(4, 8.0, ("q_proj", "v_proj"), 20, 0.001)
    targets = ", ".join(_toml(target) for target in p.targets)
    lines = (
        "[personal]  # an adapter beside the shared one: trained here after each round, and never sent",
        f"rank = {p.rank}",
        f"alpha = {p.alpha}",
        f"targets = [{targets}]",
        f"steps = {p.steps}  # after a round",
        f"learning_rate = {p.learning_rate}",
        f"batch_size = {p.batch_size}",
    )
    return "".join(f"{'' if personal else '# '}{line}\n" for line in lines)


def _expert(expert: ExpertSettings | None) -> str:
    """Return the table of the private model that thinks along, commented out where there is none."""
    e = expert or ExpertSettings(("mine",))
    chosen = ", ".join(_toml(name) for name in e.adapters or ("mine",))
    lines = (
        (expert is not None, "[expert]  # the private model that thinks along at the logit level; without it, none"),
        (bool(expert and e.adapters), f"adapters = [{chosen}]  # of adapters/; several: one for each shard"),
        (e.model is not None, f"model = {_toml(e.model or './own-model')}  # or one of your own; any tokenizer"),
        (e.untuned is not None, f"untuned = {_toml(e.untuned or './its-start')}  # add only what tuning changed"),
        (e.untuned is not None, f"strength = {e.strength}  # so many times"),
    )
    return "".join(f"{'' if told else '# '}{line}\n" for told, line in lines)


def _door(settings: Settings) -> str:
    """Return the table of the socket, commented out where nothing was chosen."""
    door = settings.door
    socket, group = door.socket or f"/run/parley/{settings.member}.sock", door.group or "parley"
    lines = (
        (door != DoorSettings(), "[door]  # to run the SuperNode as another user of this machine:"),
        (door.socket is not None, f"socket = {_toml(str(socket))}  # a socket that both can reach"),
        (door.group is not None, f"group = {_toml(group)}  # and a group that may open it"),
    )
    return "".join(f"{'' if chosen else '# '}{line}\n" for chosen, line in lines)


def _lora(lora: LoraSettings) -> str:
    """Return the table of the adapter, commented out where nothing was chosen."""
    lines = ("[lora]  # train no more of an adapter than this rank:", f"most_rank = {lora.most_rank or 4}")
    return "".join(f"{'# ' * (lora.most_rank is None)}{line}\n" for line in lines)


def _training(training: TrainingSettings) -> str:
    """Return the table of how the model is run, commented out where nothing was chosen."""
    checkpointing, precision = training.checkpointing, training.precision
    again = checkpointing is not Checkpointing.OFF
    lowered = precision is not Precision.OWN
    way = checkpointing if again else Checkpointing.NON_REENTRANT
    numbers = precision if lowered else Precision.BFLOAT16
    lines = (
        (again or lowered, "[training]  # how the model is run when it trains here; nobody else need know:"),
        (again, f"checkpointing = {_toml(way.value)}  # or reentrant: layers are run twice, for much less memory"),
        (lowered, f"precision = {_toml(numbers.value)}  # or float16, of products; gradients stay float32"),
    )
    return "".join(f"{'' if chosen else '# '}{line}\n" for chosen, line in lines)


def _page(page: PageSettings) -> str:
    """Return the table of the page, commented out where it is off."""
    lines = ("[page]  # to look at the ledger in a browser of this machine: parley member status prints the address",)
    return "".join(f"{'# ' * (page.port is None)}{line}\n" for line in (*lines, f"port = {page.port or 8645}"))


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
