"""Analysis of positions and games by a network: `python run.py analyze`. No Ray.

source.py           the game or the positions that were named
findings.py         what the network, alone or with a search, says about each position
turning_points.py   moves that cost the side that played them most
text.py             findings as lines, and a graph for a terminal
kif.py              findings as comments in KIF
page.py             a game and its findings as one HTML page
as_json.py          all of it as JSON
command.py          the command `analyze`
"""
