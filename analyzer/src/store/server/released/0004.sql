ALTER TABLE `sources` ADD COLUMN `snapshot_interval_ns` BIGINT UNSIGNED NOT NULL DEFAULT 18446744073709551615;
DELETE FROM `processes` WHERE `process_id` IN (SELECT `source` FROM `sources` WHERE `is_stale`);
DELETE FROM `sources` WHERE `is_stale`;
DELETE FROM `kept` WHERE `source` LIKE 'app:%';
ALTER TABLE `sources` ALTER COLUMN `is_stale` SET DEFAULT FALSE;
