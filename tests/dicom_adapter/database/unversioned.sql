BEGIN TRANSACTION;
CREATE TABLE condemned (path TEXT PRIMARY KEY);
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs, destination TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    transaction_uid TEXT NOT NULL DEFAULT '', not_before REAL NOT NULL DEFAULT 0,
    created TEXT NOT NULL, changed TEXT NOT NULL, content TEXT NOT NULL DEFAULT '',
    UNIQUE (job_id, destination, sop_instance_uid));
INSERT INTO "deliveries" VALUES(1,'9f077d7f-e916-51ac-8fca-0716fae9fabc','PACS','1.9','/x','delivered',1,0,'','','',0.0,'2026-11-26T21:27:01.133+00:00','2026-11-26T21:27:01.136+00:00','abc');
INSERT INTO "deliveries" VALUES(2,'9f077d7f-e916-51ac-8fca-0716fae9fabc','PACS','1.8','/y','waiting',0,0,'','not reached','',1790000000.0,'2026-11-26T21:27:01.133+00:00','2026-11-26T21:27:01.142+00:00','');
CREATE TABLE instances (
    path TEXT PRIMARY KEY, study_id INTEGER NOT NULL REFERENCES studies, sop_instance_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL, modality TEXT NOT NULL, series_description TEXT NOT NULL,
    size INTEGER NOT NULL, conflict INTEGER NOT NULL, received TEXT NOT NULL);
INSERT INTO "instances" VALUES('/data/CT/1.2.3/1.dcm',1,'1.2.3.4.1','1.2.840.10008.5.1.4.1.1.2','','',100,0,'2026-11-26T21:27:01.109+00:00');
INSERT INTO "instances" VALUES('/data/CT/1.2.3/2.dcm',1,'1.2.3.4.2','1.2.840.10008.5.1.4.1.1.2','','',100,0,'2026-11-26T21:27:01.111+00:00');
INSERT INTO "instances" VALUES('/data/CT/1.2.5/1.dcm',2,'1.2.5.4.1','1.2.840.10008.5.1.4.1.1.2','','',100,0,'2026-11-26T21:27:01.112+00:00');
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, study_id INTEGER NOT NULL REFERENCES studies, rule TEXT NOT NULL,
    workflow TEXT NOT NULL, destinations TEXT NOT NULL, generation INTEGER NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, exit_code INTEGER, reason TEXT NOT NULL DEFAULT '',
    not_before REAL NOT NULL DEFAULT 0, created TEXT NOT NULL, changed TEXT NOT NULL);
INSERT INTO "jobs" VALUES('9f077d7f-e916-51ac-8fca-0716fae9fabc',1,'liver','fd3ee8bf-b9f3-4808-bd60-243f870ff9bd','["PACS"]',1,'done',1,0,'',0.0,'2026-11-26T21:27:01.122+00:00','2026-11-26T21:27:01.131+00:00');
INSERT INTO "jobs" VALUES('10be874f-6bef-5fed-a296-47d20f2ff278',2,'liver','fd3ee8bf-b9f3-4808-bd60-243f870ff9bd','["PACS"]',1,'queued',1,6,'no server',1790000000.0,'2026-11-26T21:27:01.127+00:00','2026-11-26T21:27:01.139+00:00');
CREATE TABLE studies (
    id INTEGER PRIMARY KEY, ae_title TEXT NOT NULL, study_uid TEXT NOT NULL, state TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0, received TEXT NOT NULL, UNIQUE (ae_title, study_uid));
INSERT INTO "studies" VALUES(1,'CT','1.2.3','complete',1,'2026-11-26T21:27:01.112+00:00');
INSERT INTO "studies" VALUES(2,'CT','1.2.5','complete',1,'2026-11-26T21:27:01.112+00:00');
CREATE INDEX instances_of_study ON instances (study_id);
CREATE INDEX jobs_by_state ON jobs (state, not_before);
CREATE INDEX deliveries_by_instance ON deliveries (sop_instance_uid, destination);
CREATE INDEX deliveries_by_state ON deliveries (destination, state, not_before);
COMMIT;
