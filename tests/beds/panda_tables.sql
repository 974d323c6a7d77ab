-- The small tables that a pilot's calls touch, as the SQL strings of panda-server name them; PostgreSQL.
-- The large ones follow from the package's own classes: panda_schema.py.

CREATE TABLE DOMA_PANDA.jobParamsTable (
    PandaID bigint, jobParameters text, modificationTime timestamp
);
CREATE TABLE DOMA_PANDA.metaTable (
    PandaID bigint, metaData text, modificationTime timestamp
);
CREATE TABLE DOMA_PANDA.jobs_StatusLog (
    PandaID bigint, modificationTime timestamp, jobStatus text, prodSourceLabel text, cloud text, computingSite
    text, modificationHost text, modiftime_extended timestamp
);
CREATE TABLE DOMA_PANDA.jobsDebug (
    PandaID bigint, stdOut text, PRIMARY KEY (PandaID)
);
CREATE TABLE DOMA_PANDA.Job_Output_Report (
    PandaID bigint, prodSourceLabel text, jobStatus text, attemptNr int, data text, timeStamp timestamp, lockedBy
    text, lockedTime timestamp, PRIMARY KEY (PandaID, attemptNr)
);
CREATE TABLE DOMA_PANDA.schedconfig_json (
    panda_queue text, data json, last_update timestamp, PRIMARY KEY (panda_queue)
);
CREATE TABLE DOMA_PANDA.panda_site (
    panda_site_name text, site_name text, default_ddm_endpoint text, storage_site_name text, is_local text
);
CREATE TABLE DOMA_PANDA.site (
    site_name text, role text, tier_level int, PRIMARY KEY (site_name)
);
CREATE TABLE DOMA_PANDA.ddm_endpoint (
    ddm_endpoint_name text, site_name text, ddm_spacetoken_name text, space_total bigint, space_free bigint,
    space_used bigint, space_expired bigint, space_min_free bigint, space_unavailable bigint, space_timestamp
    timestamp, type text, is_tape text, blacklisted text, blacklisted_write text, blacklisted_read text,
    detailed_status json, PRIMARY KEY (ddm_endpoint_name)
);
CREATE TABLE DOMA_PANDA.panda_ddm_relation (
    panda_site_name text, ddm_endpoint_name text, is_local text, order_read int, order_write int, default_read
    text, default_write text, roles text, scope text
);
CREATE TABLE DOMA_PANDA.Harvester_Slots (
    pandaQueueName text, gshare text, resourceType text, numSlots int, modificationTime timestamp, expirationTime
    timestamp
);
CREATE TABLE DOMA_PANDA.Harvester_Instances (
    harvester_ID text, owner text, hostName text, lastUpdate timestamp, startTime timestamp, sw_version text,
    commit_stamp text, description text, PRIMARY KEY (harvester_ID)
);
CREATE TABLE DOMA_PANDA.Harvester_Rel_Jobs_Workers (
    harvesterID text, workerID bigint, PandaID bigint, lastUpdate timestamp
);
CREATE TABLE DOMA_PANDA.resource_types (
    resource_name text, mincore int, maxcore int, minrampercore int, maxrampercore int, PRIMARY KEY
    (resource_name)
);
CREATE TABLE DOMA_PANDA.global_shares (
    name text, value int, parent text, prodsourcelabel text, workinggroup text, campaign text, processingtype
    text, transpath text, rtype text, vo text, queue_id int, throttled text, PRIMARY KEY (name)
);
CREATE TABLE DOMA_PANDA.config (
    app text, component text, key text, value text, value_json text, type text, vo text
);
CREATE TABLE DOMA_PANDA.secrets (
    owner text, data text, updated_at timestamp, PRIMARY KEY (owner)
);
CREATE TABLE DOMA_PANDA.worker_node (
    site text, host_name text, cpu_model text, cpu_model_normalized text, n_logical_cpus int, n_sockets int,
    cores_per_socket int, threads_per_core int, cpu_architecture text, cpu_architecture_level text, clock_speed
    real, total_memory bigint, total_local_disk bigint, last_seen timestamp, PRIMARY KEY (site, host_name,
    cpu_model)
);
CREATE TABLE DOMA_PANDA.worker_node_queue (
    site text, host_name text, panda_queue text, last_seen timestamp, PRIMARY KEY (site, host_name, panda_queue)
);
CREATE TABLE DOMA_PANDA.worker_node_gpus (
    site text, host_name text, vendor text, model text, count int, vram bigint, architecture text, framework text,
    framework_version text, driver_version text, last_seen timestamp, PRIMARY KEY (site, host_name, vendor, model)
);
CREATE TABLE DOMA_PANDA.worker_node_metrics (
    site text, host_name text, key text, statistics text, timestamp timestamp
);
CREATE TABLE DOMA_PANDA.cpu_benchmarks (
    cpu_type text, site text, score_per_core real, smt_enabled int, ncores int, source text
);
CREATE TABLE DOMA_PANDA.error_classification (
    id int, error_source text, error_code int, error_diag text, error_class text, active text, PRIMARY KEY (id)
);
CREATE TABLE DOMA_PANDA.retryerrors (
    retryerror_id int, errorsource text, errorcode int, active text, parameters text, architecture text, release
    text, workqueue_id int, retryaction int, errordiag text, expiration_date timestamp, description text, PRIMARY
    KEY (retryerror_id)
);
CREATE TABLE DOMA_PANDA.retryactions (
    retryaction_id int, retry_action text, active text, description text, PRIMARY KEY (retryaction_id)
);
CREATE TABLE DOMA_PANDA.carbon_region_emissions (
    region text, timestamp timestamp, value real
);
CREATE TABLE DOMA_PANDA.jedi_work_queue (
    queue_id int, queue_name text, queue_function text, PRIMARY KEY (queue_id)
);
CREATE TABLE DOMA_PANDA.sql_queue (
    topic text, PandaID bigint, execution_order int, jediTaskID bigint, creationTime timestamp, data text
);
CREATE TABLE DOMA_PANDA.jobs_share_stats (
    computingSite text, jobStatus text, gshare text, njobs int, hs float, pro_rated_running int
);
CREATE TABLE DOMA_PANDA.jobsdefined_share_stats (
    computingSite text, jobStatus text, gshare text, njobs int, hs float
);
CREATE TABLE DOMA_PANDA.mv_jobsactive4_stats (
    computingSite text, jobStatus text, num_of_jobs int
);
CREATE TABLE DOMA_PANDA.JEDI_Job_Retry_History (
    jediTaskID bigint, oldPandaID bigint, newPandaID bigint, originPandaID bigint, ins_utc_tstamp timestamp,
    relationType text
);
CREATE TABLE DOMA_PANDA.JEDI_Events (
    jediTaskID bigint, datasetID bigint, PandaID bigint, fileID bigint, attemptNr int, status int, job_processID
    int, def_min_eventID int, def_max_eventID int, processed_upto_eventID int, event_offset int, is_jumbo int,
    objStore_ID int, file_not_deleted text, error_code int, path_convention int, loss text, zipRow_ID bigint,
    modificationHost text, error_diag text
);
CREATE TABLE DOMA_PANDAMETA.users (
    id int, name text, dn text, email text, jobid int, status text, gridpref text, lastmod timestamp, latestjob
    timestamp, firstjob timestamp, cachetime timestamp, location text, classa text, classp text, classxp text,
    ncurrent int, njobs1 int, njobs7 int, njobs30 int, cpua1 int, cpua7 int, cpua30 int, cpup1 int, cpup7 int,
    cpup30 int, quotaa1 int, quotaa7 int, quotaa30 int, quotap1 int, quotap7 int, quotap30 int, space1 int, space7
    int, space30 int, scriptcache text, types text, sites text, nsites int, vo text
);
CREATE TABLE DOMA_PANDAMETA.proxykey (
    id int, dn text, credname text, created timestamp, expires timestamp, origin text, myproxy text
);
CREATE TABLE DOMA_PANDAMETA.sitedata (
    site text, flag text, hours int, getJob int, updateJob int, noJob int, getJobAbs int, updateJobAbs int,
    noJobAbs int, lastmod timestamp, lastStart timestamp, nwn int
);

-- The server's own is materialised elsewhere; what counts here: GPU rows join node rows on site and host's name.
CREATE VIEW DOMA_PANDA.MV_WORKER_NODE_GPU_SUMMARY AS
    SELECT q.panda_queue, g.vendor, g.model, g.vram, g.architecture, g.framework_version, g.driver_version,
           max(g.count) AS gpus_per_host, count(*) AS hosts
    FROM DOMA_PANDA.worker_node_gpus g JOIN DOMA_PANDA.worker_node_queue q USING (site, host_name)
    GROUP BY 1, 2, 3, 4, 5, 6, 7;

INSERT INTO DOMA_PANDA.resource_types VALUES ('Undefined', 1, NULL, NULL, NULL);
INSERT INTO DOMA_PANDA.global_shares (name, value, prodsourcelabel) VALUES ('Test', 100, '.*');

CREATE TABLE DOMA_PANDA.pandalog (
    bintime timestamp, name text, module text, type text, pid bigint, loglevel int, levelname text, time timestamp,
    filename text, message text
);
