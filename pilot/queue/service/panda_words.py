"""The arguments of PanDA's calls, as its server 1.0.4 takes them; an argument without a default is required."""

from dataclasses import dataclass

Text = str | None
Whole = int | None
Fraction = float | int | None


@dataclass(frozen=True, slots=True)
class Acquire:
    """acquire_jobs."""

    site_name: str
    timeout: Whole = None
    memory: Whole = None
    disk_space: Whole = None
    prod_source_label: Text = None
    node: Text = None
    computing_element: Text = None
    prod_user_id: Text = None
    get_proxy_key: bool | None = None
    task_id: Whole = None
    n_jobs: Whole = None
    background: bool | None = None
    resource_type: Text = None
    harvester_id: Text = None
    worker_id: Whole = None
    scheduler_id: Text = None
    job_type: Text = None
    via_topic: bool | None = None
    remaining_time: Whole = None
    target_architecture: dict[str, object] | str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """update_job."""

    job_id: int
    job_status: str
    job_sub_status: Text = None
    start_time: Text = None
    end_time: Text = None
    pilot_timing: Text = None
    site_name: Text = None
    node: Text = None
    scheduler_id: Text = None
    pilot_id: Text = None
    batch_id: Text = None
    trans_exit_code: Whole = None
    pilot_error_code: Whole = None
    pilot_error_diag: Text = None
    exe_error_code: Whole = None
    exe_error_diag: Text = None
    n_events: Whole = None
    n_input_files: Whole = None
    attempt_nr: Whole = None
    cpu_consumption_time: Whole = None
    cpu_consumption_unit: Text = None
    cpu_conversion_factor: Fraction = None
    core_count: Whole = None
    mean_core_count: Whole = None
    max_rss: Whole = None
    max_vmem: Whole = None
    max_swap: Whole = None
    max_pss: Whole = None
    avg_rss: Fraction = None
    avg_vmem: Fraction = None
    avg_swap: Fraction = None
    avg_pss: Fraction = None
    tot_rchar: Whole = None
    tot_wchar: Whole = None
    tot_rbytes: Whole = None
    tot_wbytes: Whole = None
    rate_rchar: Fraction = None
    rate_wchar: Fraction = None
    rate_rbytes: Fraction = None
    rate_wbytes: Fraction = None
    corrupted_files: Text = None
    cpu_architecture_level: Text = None
    grid: Text = None
    source_site: Text = None
    destination_site: Text = None
    job_metrics: Text = None
    job_output_report: Text = None
    pilot_log: Text = None
    meta_data: Text = None
    stdout: Text = None


@dataclass(frozen=True, slots=True)
class Bulk:
    """update_jobs_bulk."""

    job_list: list[object]
    harvester_id: Text = None


@dataclass(frozen=True, slots=True)
class Statuses:
    """get_job_status; the ids with commas between them."""

    job_ids: str
    timeout: Whole = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """update_worker_status."""

    worker_id: int
    harvester_id: str
    status: str
    timeout: Whole = None
    node_id: Text = None


@dataclass(frozen=True, slots=True)
class WorkerNode:
    """update_worker_node; total_memory in MB, total_local_disk in GB, clock_speed in MHz."""

    site: str
    host_name: str
    cpu_model: str
    panda_queue: Text = None
    n_logical_cpus: Whole = None
    n_sockets: Whole = None
    cores_per_socket: Whole = None
    threads_per_core: Whole = None
    cpu_architecture: Text = None
    cpu_architecture_level: Text = None
    clock_speed: float | None = None
    total_memory: Whole = None
    total_local_disk: Whole = None
    timeout: Whole = None


@dataclass(frozen=True, slots=True)
class WorkerGpu:
    """update_worker_node_gpu; vram in MB."""

    site: str
    host_name: str
    vendor: str
    model: str
    count: int
    vram: Whole = None
    architecture: Text = None
    framework: Text = None
    framework_version: Text = None
    driver_version: Text = None
    timeout: Whole = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """Calls that take nothing."""
