"""Write the policy that a new home starts with, each line explained; it allows little, and nothing without noise."""

RECORD_TOKENS = 128
_POLICY = """\
# What this home agrees to. Yours alone: nothing that comes over the wire can change it.
# What is not allowed here is refused. An unknown key is an error. Read it back with: parley member policy show DIR
# What it would refuse an experiment for: parley member policy check DIR EXPERIMENT
version = 1
# For comparing engines on data that is not private. Whoever knows the seed can subtract the noise.
# unsafe_seeded_randomness = true

# The budget of your data, for everything that ever leaves it, over all coordinators that draw on this ledger.
[budget]
epsilon = 8.0            # smaller protects more; lower it at any time, it never goes up again for data in use
delta = {delta}            # keep it below 1 / number of records; fixed once the first release is made
unit = "record"          # what is protected: one record ("record"), one person's records ("group"), or all ("member")
record_tokens = {tokens}      # one record is so many tokens of one document; fixed once the first release is made
# approximate_delta = 1e-7          # the part of delta for mechanisms that have one of their own; fixed likewise
# disclosures = 1000                # at most so many releases without any epsilon, ever, over all permissions

# Who may ask for what. One [[allow]] per partner and level; without one, nothing leaves.
[[allow]]
partner = "{partner}"  # the coordinator's key, from your invitation
level = "weights"        # api, text, logits, weights
collaborations = ["average"]
# The crowd is the members that take part, yourself included; for a secure sum only members of the roster that you
# approved count. Two are no crowd: the sum less one's own values is the other's. Unless your own noise is enough by
# itself, a secure sum needs three, whatever stands here.
smallest_crowd = 2       # fewer members than this, and nothing leaves
# Members that collude tell the coordinator their own values; the sum then hides yours only among those of the rest,
# and only the noise of the rest counts: the more of them you reckon with, the more noise every member adds. It is a
# number of members, and not a share: think again when the roster grows.
colluding = 1            # at least so many members of the crowd are taken to work with the coordinator
# A sum that failed because somebody went away may be tried again with those who are left, within a session. Every
# attempt is charged; the difference of two sums is about whoever is in only one of them.
attempts = 1             # one sum is tried at most so often
# A stream, by which this home dials the coordinator for what takes many short letters, is an entry of its own:
#     [[allow]]
#     partner = the same, level = "logits", collaborations = ["stream"]
# Each of these bounds more, if you take its # away:
# epsilon = 2.0                     # this permission's share: all that it lets out costs at most so much
# least_noise = 0.5                 # of every mechanism, in units of its sensitivity, before sampling amplifies it
# releases_per_day = 20             # in any 24 hours
# bytes_per_day = 100_000_000       # in any 24 hours
# disclosures = 10                  # releases without any epsilon, ever
# expires = 2030-12-31              # the last day, by UTC
# purposes = ["research"]           # the partner has to give one of them, to the letter
# approval = true                   # nothing leaves before you say so (parley member approve): a first run only asks
# redaction = "names"               # text leaves only redacted by this profile; without a profile no text leaves
# And these allow more:
# tells = ["count", "timing"]       # of count, metric, timing, capability: what may be told, coarsely
# trusts_coordinator = true         # its samples protect what others see; the coordinator itself sees the exact sum
# unsafe_plain_sum = true           # lets the coordinator see YOUR values, and not only the sum of all
# unsafe_without_noise = true       # lets updates leave without noise: they then have NO epsilon at all
# unsafe_unredacted_text = true     # lets text leave as it is
"""


def policy_toml(partner: str, delta: str) -> str:
    """Return the text of a new policy.toml for the coordinator whose public key is `partner`."""
    return _POLICY.format(partner=partner, delta=delta, tokens=RECORD_TOKENS)
