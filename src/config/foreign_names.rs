//! Names that are not names of settings, and the settings that they stand for.

/// Names that other programs and platforms use for a setting. otpd does not read them, because they
/// may be meant for other programs; it warns if one is set and the setting is not.
pub(super) const FOREIGN_NAMES: [(&str, &[&str]); 22] = [
    (
        "redis.url",
        &[
            "REDIS_SENTINELS",
            "REDIS_SENTINEL_HOSTS",
            "REDIS_SENTINEL_MASTER",
            "REDIS_CLUSTER_NODES",
            "REDIS_NODES",
        ],
    ),
    ("redis.sentinel_password", &["REDIS_SENTINEL_PASSWORD"]),
    (
        "smtp.server",
        &["SMTP_HOST", "SMTP_HOSTNAME", "SMTP_ADDRESS", "SMTP_URL", "EMAIL_HOST", "MAIL_HOST", "MAIL_SERVER"],
    ),
    ("smtp.port", &["EMAIL_PORT", "MAIL_PORT"]),
    (
        "smtp.username",
        &[
            "SMTP_USERNAME",
            "SMTP_USER",
            "SMTP_LOGIN",
            "EMAIL_USER",
            "EMAIL_USERNAME",
            "EMAIL_HOST_USER",
            "MAIL_USER",
            "MAIL_USERNAME",
        ],
    ),
    ("smtp.auth", &["SMTP_AUTH", "SMTP_AUTH_METHOD", "SMTP_AUTHENTICATION"]),
    (
        "smtp.password",
        &[
            "SMTP_PASSWORD",
            "SMTP_PASS",
            "SMTP_PASSWD",
            "EMAIL_PASS",
            "EMAIL_HOST_PASSWORD",
            "MAIL_PASSWORD",
            "MAIL_PASS",
        ],
    ),
    (
        "smtp.sender",
        &[
            "SMTP_FROM",
            "SMTP_FROM_ADDRESS",
            "SMTP_FROM_EMAIL",
            "SMTP_SENDER",
            "EMAIL_FROM",
            "FROM_EMAIL",
            "DEFAULT_FROM_EMAIL",
            "MAIL_FROM",
            "MAIL_FROM_ADDRESS",
            "MAIL_DEFAULT_SENDER",
        ],
    ),
    (
        "smtp.tls",
        &[
            "SMTP_TLS",
            "SMTP_SSL",
            "SMTP_SECURE",
            "SMTP_SECURITY",
            "SMTP_ENCRYPTION",
            "SMTP_STARTTLS",
            "SMTP_USE_TLS",
            "EMAIL_USE_TLS",
            "EMAIL_USE_SSL",
            "MAIL_ENCRYPTION",
            "MAIL_USE_TLS",
            "MAIL_USE_SSL",
        ],
    ),
    ("mail.brand", &["SMTP_FROM_NAME", "EMAIL_SENDER_NAME", "MAIL_FROM_NAME"]),
    ("redis.url", &["REDIS_URI", "REDIS_DSN", "REDIS_TLS_URL", "REDISCLOUD_URL", "VALKEY_URL"]),
    ("redis.host", &["REDIS_HOSTNAME", "REDIS_ADDR", "REDIS_ADDRESS", "VALKEY_HOST"]),
    ("redis.db", &["REDIS_DATABASE"]),
    ("redis.username", &["REDIS_USER"]),
    ("redis.password", &["REDIS_PASS", "REDIS_AUTH"]),
    ("redis.tls", &["REDIS_SSL", "REDIS_USE_TLS", "REDIS_TLS_ENABLED"]),
    ("http.listen", &["PORT", "HTTP_PORT", "LISTEN", "BIND", "BIND_ADDRESS", "LISTEN_ADDR"]),
    ("http.trusted_proxies", &["TRUSTED_PROXIES"]),
    ("http.allowed_origins", &["ALLOWED_ORIGINS", "CORS_ORIGINS", "CORS_ALLOWED_ORIGINS"]),
    ("http.public_url", &["PUBLIC_URL"]),
    ("log.level", &["LOG_LEVEL", "LOGLEVEL", "RUST_LOG"]),
    ("log.format", &["LOG_FORMAT"]),
];

/// Names after `OTP_` or in the file that unambiguously mean another setting: common guesses, and
/// names from before the first release.
pub(super) const MEANT_NAMES: [(&str, &[&str]); 14] = [
    ("limits.ip_sends", &["LIMITS_NETWORK_SENDS"]),
    ("limits.ip_attempts", &["LIMITS_NETWORK_GUESSES"]),
    ("limits.email_sends", &["LIMITS_SUBJECT_SENDS"]),
    ("limits.email_sends_total", &["LIMITS_ADDRESS_SENDS"]),
    ("limits.ip_email_sends", &["LIMITS_SITE_SENDS"]),
    ("limits.ip_email_attempts", &["LIMITS_SITE_GUESSES"]),
    ("limits.ip_requests_per_second", &["LIMITS_SHIELD_PER_SECOND"]),
    ("limits.ip_requests_burst", &["LIMITS_SHIELD_BURST"]),
    ("limits.attempts", &["LIMITS_GUESSES"]),
    ("limits.relay_emails_per_day", &["LIMITS_RELAY_MAILS_PER_DAY"]),
    ("http.listen", &["HTTP_HOST", "HTTP_BIND", "HTTP_ADDRESS", "HOST"]),
    ("http.allowed_origins", &["HTTP_CORS", "HTTP_ORIGINS", "CORS"]),
    ("secrets.peppers", &["PEPPER", "PEPPERS", "SECRET", "SECRET_KEY"]),
    ("tenant.keys", &["API_KEY", "API_KEYS", "TENANT_API_KEYS"]),
];

pub(super) fn key_of(table: &[(&'static str, &[&str])], name: &str) -> Option<&'static str> {
    table.iter().find(|(_, names)| names.contains(&name)).map(|(key, _)| *key)
}

/// Returns the setting that other programs call by this name, with or without `_FILE`.
pub(super) fn of_foreign(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_FILE").unwrap_or(name);
    key_of(&FOREIGN_NAMES, name)
}
