"""All settings, how values are read, and defaults computed from the hardware.

    sections       every setting with its default, meaning and limits
    schema         the tree of all sections (`Config`), and sizes that follow from it
    checks         settings that do not fit each other, or have no effect
    resolver       defaults, file, environment, sweep and command line merged into one `Config`
    describe       the list of all settings, and `run.py config --describe`
    nearest        the known name that is nearest to a mistyped one
    autosize       choices left to the hardware
    memory         estimate of the memory that a run needs
    player_spec    how a player is written
    player_names   names of the run's own weights
    subscriber_entries  how a user's subscriber is named, with settings of its own
    yaml12         YAML as a user expects it

Nothing here imports torch or Ray.
"""
