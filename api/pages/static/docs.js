// Shows the service's own description with Swagger UI.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#description", deepLinking: true, defaultModelsExpandDepth: 0 });
