// Preloaded into wrk: every TLS connection begins with a full handshake.
//
// wrk keeps one SSL object for each of its connections and calls SSL_clear between them. That keeps the session, and the
// next connection resumes it. Here the session is dropped first.
#define _GNU_SOURCE
#include <dlfcn.h>

int SSL_clear(void *ssl) {
    int (*set_session)(void *, void *) = (int (*)(void *, void *))dlsym(RTLD_DEFAULT, "SSL_set_session");
    int (*clear)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "SSL_clear");
    set_session(ssl, 0);
    return clear(ssl);
}
