"""RunPod's Hub looks for a file of this name. The worker is the program `chandler`, and so is the image's command; this
starts it for whoever runs the file by hand. No handler is written in Python: the job loop is in src/runpod.
"""

import os

os.execvp("chandler", ["chandler", "serve"])
