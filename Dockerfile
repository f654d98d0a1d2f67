# The images of conf/compose.yaml. They begin with Debian and add its packages, PyPI's and Maven Central's; `docker build --target page .` makes one.

FROM debian:bookworm-slim AS python
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/tinytags \
    && useradd --uid 10001 --create-home tinytags \
    && install -d -o tinytags -g tinytags /data
ENV PATH=/opt/tinytags/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /src


# Serves the page, and runs every command with the master `processes`: no Java.
FROM python AS page
COPY setup.cfg pyproject.toml constraints.txt ./
# The libraries in a layer of their own: a change of the code doesn't install them again.
RUN touch tinytags.py README.md LICENSE \
    && pip install -q --no-cache-dir -c constraints.txt ".[network,features,postgresql,cassandra]" \
    && rm -rf build *.egg-info tinytags.py README.md LICENSE
COPY . .
RUN pip install -q --no-cache-dir --no-deps --force-reinstall . && python -m tagging.forest.kernel
USER tinytags
WORKDIR /data
EXPOSE 8000
CMD ["tinytags", "serve", "--host", "0.0.0.0"]


# Sends requests to the pages that answer.
FROM debian:bookworm-slim AS balancer
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx-light \
    && rm -rf /var/lib/apt/lists/*
COPY conf/containers/nginx.conf /etc/nginx/nginx.conf
USER www-data
EXPOSE 8080
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]


# PostgreSQL.
FROM debian:bookworm-slim AS database
RUN mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o postgres -g postgres /data
COPY conf/containers/postgresql.sh /usr/local/bin/
USER postgres
EXPOSE 5432
CMD ["sh", "/usr/local/bin/postgresql.sh"]


# The servers of jars: Java, and the small part of TinyTags that starts them.
FROM python AS java
RUN apt-get update \
    && apt-get install -y --no-install-recommends default-jre-headless \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt ./
RUN pip install -q --no-cache-dir -c constraints.txt click urllib3
ENV TINYTAGS_JARS_DIR=/jars TINYTAGS_SERVICES_DIR=/data


FROM java AS maven
RUN apt-get update && apt-get install -y --no-install-recommends maven
COPY conf conf
COPY operations operations


FROM maven AS solr-jars
RUN python -m operations.services jars solr


FROM java AS solr
COPY --from=solr-jars /jars /jars
COPY conf conf
COPY operations operations
USER tinytags
EXPOSE 8983
CMD ["python", "-m", "operations.services", "run", "solr"]


FROM maven AS cassandra-jars
RUN python -m operations.services jars cassandra


FROM java AS cassandra
COPY --from=cassandra-jars /jars /jars
COPY conf conf
COPY operations operations
USER tinytags
EXPOSE 9042
CMD ["python", "-m", "operations.services", "run", "cassandra"]
