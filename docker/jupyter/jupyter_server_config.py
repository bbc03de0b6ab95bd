"""JupyterLab in the container: where it listens, whom it answers, what it keeps quiet about."""

import os
import sys
import warnings
from pathlib import Path

from jupyter_server.utils import JupyterServerAuthWarning

sys.path.append(str(Path(__file__).parent))
from redaction import Redaction

c = get_config()  # noqa: F821

# The entry point has given up root, but in rootless Docker, where root is the host's user.
c.ServerApp.allow_root = True

# All addresses of the container; the compose file publishes the port on the host's 127.0.0.1 only.
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0

# hosts.py checks the Host of every request; Jupyter's own check passes redirects and takes no addresses.
c.ServerApp.allow_remote_access = True

# lab.sh sets the token. Kernels inherit the environment, and notebooks are saved with what they print, so the
# token leaves it; nor is it in the log, but for the address that announce.py prints.
if token := os.environ.pop("JUPYTER_TOKEN", None):
    c.IdentityProvider.token = token
    c.Application.logging_config = {
        "filters": {"token": {"()": Redaction, "token": token}},
        "handlers": {"console": {"filters": ["token"]}},
    }

# An extension's address without a rule of its own asks for the token too, and no start warns of it.
c.ServerApp.allow_unauthenticated_access = False
warnings.simplefilter("ignore", JupyterServerAuthWarning)

# The login page offers no password: it would be gone with the container.
c.PasswordIdentityProvider.allow_password_change = False

c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/workshop"
c.LabApp.default_url = "/lab/tree/notebooks/workshop.ipynb"

# No news, no look for updates, no list of extensions from a registry: nothing leaves this machine.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"

# Deleted is deleted, as the question before says: a trash would be a hidden folder in ./work and ./notebooks.
c.FileContentsManager.delete_to_trash = False
c.FileContentsManager.always_delete_dir = True

# Bytes a second: ten times Jupyter's own, so that a row of pictures passes and a flood does not.
c.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = 10_000_000

# The status bar shows memory and processor use.
c.ResourceUseDisplay.track_cpu_percent = True

# Else each kernel warns in the log that others in the container could read along.
c.KernelManager.transport_encryption = "auto"

# A busy kernel is killed after these seconds, within the ten that `docker compose stop` waits.
c.KernelManager.shutdown_wait_time = 3.0

# Only warnings, and then the address: announce.py prints it when the server answers.
c.Application.log_level = "WARN"
c.ServerApp.jpserver_extensions = {"hosts": True, "announce": True}
c.ServerApp.reraise_server_extension_failures = True
