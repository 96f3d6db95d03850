"""A bundle onto a board: copied with the system's ssh and scp, tested there, then put in place.

connection    [USER@]HOST:PATH; one connection for everything: scripts run there, files copied
board         what the board is, and whether the bundle can run on it
rollout       the steps in order, and how they are undone
"""

from shiftedge.export.deploy.rollout import Deployed, deploy

__all__ = ["Deployed", "deploy"]
