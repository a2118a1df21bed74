# Four images, one target each: maintenance, messaging_sender, messaging_receiver, resolver.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim

# The locked packages, only as wheels: nothing is compiled, and no package's code runs during the installation. The one
# exception is cffi on 32-bit ARM, for which it has no wheel. /tmp/options is empty on all other platforms.
FROM ${PYTHON_IMAGE} AS packages
COPY requirements/compile.txt requirements/runtime.txt /tmp/
RUN touch /tmp/options \
    && if [ "$(dpkg --print-architecture)" = armhf ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends gcc libc6-dev libffi-dev \
        && python3 -m pip install --no-cache-dir --no-compile --root-user-action=ignore \
            --no-deps --require-hashes --only-binary=:all: -r /tmp/compile.txt \
        && echo --no-binary=cffi --no-build-isolation > /tmp/options; fi
RUN python3 -m pip install --no-cache-dir --no-compile --root-user-action=ignore \
        --no-deps --require-hashes --only-binary=:all: $(cat /tmp/options) --prefix=/packages -r /tmp/runtime.txt \
    && rm -rf /packages/bin \
    && find /packages -depth \( -name tests -o -name 'tests[-_.]*' -o -name '*.pyi' -o -name '*.[ch]' \) \
        -exec rm -rf {} +

# With --build-arg STORE_ENGINE=postgresql, what STORE needs in addition, for 64-bit platforms.
FROM packages AS store_packages
ARG STORE_ENGINE=sqlite
COPY requirements/postgresql.txt /tmp/
RUN mkdir /store_packages \
    && case "$STORE_ENGINE" in \
        sqlite) ;; \
        postgresql) PYTHONPATH="$(echo /packages/lib/python3*/site-packages)" \
            python3 -m pip install --no-cache-dir --no-compile --root-user-action=ignore \
                --no-deps --require-hashes --only-binary=:all: --prefix=/store_packages -r /tmp/postgresql.txt ;; \
        *) echo "STORE_ENGINE is sqlite or postgresql, not $STORE_ENGINE" >&2; exit 1 ;; esac

# Our own distribution. Its build tools stay out of the final images.
FROM ${PYTHON_IMAGE} AS distribution
COPY requirements/build.txt /tmp/
RUN python3 -m pip install --no-cache-dir --no-compile --root-user-action=ignore \
        --no-deps --require-hashes --only-binary=:all: -r /tmp/build.txt
COPY pyproject.toml README.md LICENSE /source/
COPY dane_messenger /source/dane_messenger
COPY idlib /source/idlib
COPY messaging_maintenance /source/messaging_maintenance
COPY messaging_receiver /source/messaging_receiver
COPY messaging_sender /source/messaging_sender
# Without completion scripts and man pages.
RUN HATCH_BUILD_NO_HOOKS=true python3 -m pip install --no-cache-dir --no-compile --root-user-action=ignore --no-index \
        --no-deps --no-build-isolation --prefix=/packages /source

# The common part of the three services. Their user owns the volumes, which start as copies of these directories.
FROM ${PYTHON_IMAGE} AS python
ARG APP_UID=1001
RUN useradd --uid ${APP_UID} --user-group --no-create-home --home-dir /tmp --shell /bin/bash messenger \
    && install -d -m 0700 -o ${APP_UID} -g ${APP_UID} /identity /credentials /data /epochs \
    && install -d -m 0755 -o ${APP_UID} -g ${APP_UID} /epoch-records \
    && echo '. /etc/greeting.sh' >> /etc/bash.bashrc \
    && cd /usr/local && rm -rf bin/pip* bin/idle* bin/pydoc* lib/python3*/ensurepip lib/python3*/site-packages/pip*
COPY --from=packages /packages /usr/local
COPY --from=store_packages /store_packages /usr/local
COPY --from=distribution /packages /usr/local
ENV APP_UID=${APP_UID} \
    LANG=C.UTF-8 \
    PYTHONPYCACHEPREFIX=/application/bytecode

# Bytecode of everything that the programs import, including Python's own modules, because a read-only container cannot
# store it. What they import only when they need it is named here; pybase64 is not installed on 32-bit ARM. They do not
# import dane_messenger, which is for other programs, and without psycopg not what uses it.
FROM python AS bytecode
ARG STORE_ENGINE=sqlite
COPY applications /application
RUN cd /application && chmod -R a+rX,go-w . && rm restart.py \
    && for name in idlib messaging_maintenance messaging_receiver messaging_sender; do \
        python3 -c "import pkgutil, $name; \
            [__import__(one.name) for one in pkgutil.walk_packages($name.__path__, '$name.')]" || exit 1; done \
    && python3 -c "import ctypes, dane_discovery.dane, encodings.ascii, publicsuffixlist" \
    && { python3 -c "import pybase64" || test "$(uname -m)" != x86_64; } \
    && if [ "$STORE_ENGINE" = sqlite ]; then \
        find bytecode -type f \( -path '*/storage/postgresql/*' -o -path '*/messaging_receiver/group/*' \) \
            -delete; else python3 -c "import psycopg"; fi \
    && for program in */src/*.py; do \
        (cd "${program%/*}" && python3 "${program##*/}" --help > /dev/null) || exit 1; done

FROM python AS service
ENV PYTHONDONTWRITEBYTECODE=1
COPY --from=bytecode /application/bytecode/usr /application/bytecode/usr
COPY --from=bytecode /application/greeting.sh /etc/
CMD ["python3", "application.py"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["python3", "application.py", "--health"]

FROM service AS maintenance
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nano \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/lib/dpkg/*-old /var/log/apt \
        /var/log/dpkg.log
COPY --from=bytecode /application/maintenance /application/maintenance
WORKDIR /application/maintenance/src
USER ${APP_UID}:${APP_UID}

FROM service AS messaging_sender
COPY --from=bytecode /application/messaging_sender /application/messaging_sender
WORKDIR /application/messaging_sender/src
USER ${APP_UID}:${APP_UID}

FROM service AS messaging_receiver
COPY --from=bytecode /application/messaging_receiver /application/messaging_receiver
WORKDIR /application/messaging_receiver/src
USER ${APP_UID}:${APP_UID}

# Debian's Unbound, without the packages that only its Python module needs.
FROM ${DEBIAN_IMAGE} AS resolver
ARG APP_UID=1001
RUN apt-get update \
    && apt-get install --yes --no-install-recommends unbound dns-root-data \
    && dpkg --purge --force-depends libpython3.11-stdlib libpython3.11-minimal media-types libsqlite3-0 libreadline8 \
        readline-common libncursesw6 libnsl2 libtirpc3 libtirpc-common libgssapi-krb5-2 libkrb5-3 libkrb5support0 \
        libk5crypto3 libkeyutils1 \
    && rm -rf /etc/unbound/* /usr/sbin/unbound-control* /usr/share/doc/unbound /usr/share/man/* \
        /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/lib/dpkg/*-old /var/log/apt /var/log/dpkg.log
COPY resolver/unbound.conf /etc/unbound/
COPY resolver/health.sh resolver/seed_root_key.sh resolver/start.sh /usr/local/bin/
# The volume for the root's keys starts as a copy of this directory.
RUN chmod a+r /etc/unbound/unbound.conf && chmod a+rx /usr/local/bin/*.sh \
    && rm -rf /var/lib/unbound && install -d -m 0700 -o ${APP_UID} -g ${APP_UID} /var/lib/unbound
USER ${APP_UID}:${APP_UID}
CMD ["start.sh"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["health.sh"]
