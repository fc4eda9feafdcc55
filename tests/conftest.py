"""Property tests look for wrong answers: how fast a busy machine makes up their inputs is no answer."""

from hypothesis import HealthCheck, settings

settings.register_profile("parley", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parley")
