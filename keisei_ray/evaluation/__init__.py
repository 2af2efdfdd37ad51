"""Evaluation: matches from both colours, scores with intervals, ladders, Elo tables. No Ray.

    matches.py           games of two players, many at once, each opening from both colours
    openings.py          a book of openings
    score_intervals.py   a match's score with its 95% interval, as Elo difference
    sprt.py              a test that ends a match as soon as the result is clear
    pair_outcomes.py     how likely the outcomes of a pair of games are: draws, openings
    elo_table.py         one Elo table from all results, on the scale of the scripted players
    match_record.py      a match as a line of a run's records
    run_matches.py       adds matches of a run's checkpoints to its records
    summary.py           a match's result as values and as a table
    game_files.py        a match's games for other shogi programs
    command.py           the command `evaluate`
    ladder.py            the command `ladder`
    ladder_results.py    its file
    plan.py              the matches of a background evaluation
    evaluator.py         plays them with published weights
    earlier_versions.py  earlier weights of the run as opponents

The driver starts a background evaluation by `distributed/evaluation_handle.py`.
"""
