"""Images drawn on the spot, with exact masks: scenes to pretrain on, and data sets to try the tool with."""

from convlora.data.synthetic.cells import draw_cells
from convlora.data.synthetic.scenes import Scene, SceneStyle, draw_scene
from convlora.data.synthetic.tasks import TASKS, write_task

__all__ = ["TASKS", "Scene", "SceneStyle", "draw_cells", "draw_scene", "write_task"]
