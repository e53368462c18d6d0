//! TLS.

group! { $ tls_params {
    tls_port: u16 = 0, "tls-port", Kind::integer(0, 65535), [],
        "Port for TLS connections; 0 for none.";
    tls_cert_file: Option<String> = None, "tls-cert-file", Kind::Text, [VOLATILE],
        "Certificate of the server (PEM).";
    tls_key_file: Option<String> = None, "tls-key-file", Kind::Text, [VOLATILE],
        "Its private key (PEM).";
    tls_key_file_pass: Option<String> = None, "tls-key-file-pass", Kind::Text, [SENSITIVE],
        "Password of the key.";
    tls_client_cert_file: Option<String> = None, "tls-client-cert-file", Kind::Text, [VOLATILE],
        "Certificate for connections that this server opens; by default the server's.";
    tls_client_key_file: Option<String> = None, "tls-client-key-file", Kind::Text, [VOLATILE],
        "Its private key.";
    tls_client_key_file_pass: Option<String> = None, "tls-client-key-file-pass", Kind::Text, [SENSITIVE],
        "Password of that key.";
    tls_ca_cert_file: Option<String> = None, "tls-ca-cert-file", Kind::Text, [VOLATILE],
        "Certificates that are trusted (PEM).";
    tls_ca_cert_dir: Option<String> = None, "tls-ca-cert-dir", Kind::Text, [VOLATILE],
        "Directory of certificates that are trusted.";
    tls_dh_params_file: Option<String> = None, "tls-dh-params-file", Kind::Text, [VOLATILE NO_EFFECT],
        "There is no finite-field Diffie-Hellman here.";
    tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, "tls-auth-clients", TlsAuthClients::KIND, [],
        "Whether clients must show a certificate: yes, no, optional.";
    tls_auth_clients_user: TlsAuthClientsUser = TlsAuthClientsUser::Off, "tls-auth-clients-user", TlsAuthClientsUser::KIND, [],
        "CN: who shows a certificate is the ACL user of its common name, without a password; off: the default user.";
    tls_replication: bool = false, "tls-replication", Kind::Bool, [],
        "Use TLS towards the primary.";
    tls_cluster: bool = false, "tls-cluster", Kind::Bool, [],
        "Use TLS on the cluster bus.";
    tls_protocols: Option<String> = None, "tls-protocols", Kind::Text, [],
        "Versions that are offered, as \"TLSv1.2 TLSv1.3\"; older ones never are.";
    tls_ciphers: Option<String> = None, "tls-ciphers", Kind::Text, [],
        "Ciphers of TLS 1.2 by OpenSSL's names; only those of ECDHE with GCM or ChaCha20 exist here.";
    tls_ciphersuites: Option<String> = None, "tls-ciphersuites", Kind::Text, [],
        "Cipher suites of TLS 1.3.";
    tls_prefer_server_ciphers: bool = false, "tls-prefer-server-ciphers", Kind::Bool, [],
        "The server's order of ciphers counts.";
    tls_session_caching: bool = true, "tls-session-caching", Kind::Bool, [],
        "Let clients resume sessions.";
    tls_session_cache_size: u32 = 20480, "tls-session-cache-size", Kind::integer(0, INT_MAX), [],
        "Sessions that are remembered.";
    tls_session_cache_timeout: u32 = 300, "tls-session-cache-timeout", Kind::integer(0, INT_MAX), [],
        "Seconds for which they are remembered.";
} }
