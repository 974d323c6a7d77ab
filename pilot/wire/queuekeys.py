"""The keys of a PanDA queue (CRIC's JSON) that pilots act on: what each does here, or why it does nothing.

The one list of them: docs/reference/panda.md is drawn from it, and a test holds that what is parsed is used.
"""

# Every key of a queue that pilots of PanDA act on: what it does here...
KEYS = {
    "nickname": "the queue's name towards the server (`computing_element`)",
    "panda_resource": "what jobs are asked for (`site_name`), where `panda_resource` does not say otherwise",
    "atlas_site": "the site's name towards monitors, where `panda_site` does not say otherwise",
    "gstat": "the same, where there is no `atlas_site`",
    "state": "a queue that is not ACTIVE is refused with that word",
    "status": "`offline` ends the pilot, `test` asks for tests only, `online`, `brokeroff` and others work",
    "corecount": "the cores of a multi-core job, by which resource types are chosen that fit the slot",
    "maxrss": "no more memory is told to the server for one job",
    "maxwdir": "no more disk space is told to the server; what a job may fill that does not say how much it needs",
    "maxinputsize": "a job whose inputs are larger is declined with that reason",
    "maxtime": "the pilot's lifetime at most, the time left that the server is told, and every job's walltime at most",
    "timefloor": "further jobs are wanted only while the pilot is younger, where `timefloor` does not say otherwise; "
    "0, and a queue without it: one job for each pilot",
    "environ": "plain `NAME=VALUE` words stand in every payload's environment; commands, references to others, "
    "and names of loaders, credentials and the pilot's own are left out",
    "params": "`pilot_rss_grace`, `pilot_maxwdir_grace`, `pilot_walltime_grace`: a job may exceed the memory, disk "
    "space or walltime that it asked for by so many percent, as far as the slot has room; without them, by nothing",
    "astorages": "endpoints of outputs that name none: the first known one under `write_lan`, `pw`, `write_wan`",
    "catchall": "`IMAGE_BASE=` stands before relative names of images; `no_target_architecture`: the server is not "
    "told of devices; `no_token_renewal`: the server is not asked for a fresh token",
}
# ... or why it does nothing.
IGNORED = {
    "memkillgrace": "a job's memory is limited by its own share and `pilot_rss_grace`, not scaled by a second factor",
    "container_options": "bind mounts are the site's own `binds`; other options could loosen the isolation of jobs",
    "container_type": "the runtime is `runtime`, and is tried before it is used",
    "is_cvmfs": "an image on CVMFS is a path like any other, and looked for when a job names it",
    "resource_type": "it says what kind of site this is (grid, cloud, HPC), not which jobs (`panda_resource_type`)",
    "acopytools": "files are fetched and stored by the scheme of their URL, not by a tool of the site's",
    "aprotocols": "protocols come with the endpoints: `panda_storages`, else the storages document",
    "copytools": "the older form of `acopytools`",
    "allow_lan": "every input is staged, none is read directly",
    "allow_wan": "the same",
    "direct_access_lan": "the same",
    "direct_access_wan": "the same",
    "use_pcache": "there is no cache of inputs",
    "appdir": "experiments' software is looked for inside the image",
    "cmtconfig": "the server has chosen by it already",
    "pledgedcpu": "an accounting figure",
    "zip_time_gap": "for the event service, which is not done",
    "type": "jobs are chosen by label: `panda_label`",
}
