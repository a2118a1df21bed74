from hypothesis import settings

# Timing is for benchmarks; a slow machine must not fail a property.
settings.register_profile("without-deadlines", deadline=None)
settings.load_profile("without-deadlines")
