"""JupyterLab in the container: where it listens, what it opens, what it keeps quiet about."""

import sys
from pathlib import Path

c = get_config()  # noqa: F821

# The entry point has given up root, but in rootless Docker, where root is the host's user.
c.ServerApp.allow_root = True

# All addresses of the container; the compose file publishes the port on the host's 127.0.0.1 only.
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/workshop"
c.LabApp.default_url = "/lab/tree/notebooks/workshop.ipynb"

# No news, no look for updates, no list of extensions from a registry: nothing leaves this machine.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"

# The status bar shows memory and processor use.
c.ResourceUseDisplay.track_cpu_percent = True

# A busy kernel is killed after these seconds, within the ten that `docker compose stop` waits.
c.KernelManager.shutdown_wait_time = 3.0

# Only warnings, and then the address: announce.py prints it when the server answers.
c.Application.log_level = "WARN"
sys.path.append(str(Path(__file__).parent))
c.ServerApp.jpserver_extensions = {"announce": True}
